#!/bin/bash
# A script that keeps every line it has seen in an array.
lines=()
keep() {
    for ((number = 0; number < $1; number++)); do
        lines+=("line $number of a log that nobody looks at, with some more words in it")
    done
}
keep 5000
echo steady
read -r line || exit
keep 250000
echo done
read -r line
