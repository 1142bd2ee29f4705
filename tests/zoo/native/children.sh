#!/bin/sh
# Helpers that are started and never end.
start() {
    # shellcheck disable=SC2034
    for number in $(seq "$1"); do sleep infinity & done
}
start 5
echo steady
read -r line || exit
start 250
echo done
read -r line
