#!/bin/sh
# Short processes that come and go.
work() {
    for number in $(seq "$1"); do head -c 1000000 /dev/zero | cksum >/dev/null; done
}
work 20
echo steady
read -r line || exit
work 200
echo done
read -r line
