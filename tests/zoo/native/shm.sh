#!/bin/sh
# Files in /dev/shm that are never removed: one large one that grows, or (many) a new one each time.
fill() { dd if=/dev/zero bs=1M count="$2" 2>/dev/null >>"/dev/shm/$1"; }
kind=$1
fill queue 2
echo steady
read -r line || exit
for number in 1 2 3 4 5 6 7 8 9 10; do
    if [ "$kind" = many ]; then fill "part$number" 8; else fill queue 8; fi
done
echo done
read -r line
