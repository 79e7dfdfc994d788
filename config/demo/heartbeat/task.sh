#!/bin/sh
# kindling logs heartbeat -f, then change this text and save: the new version takes over.
beat=0
while true; do
    beat=$((beat + 1))
    echo "beat $beat"
    sleep "$INTERVAL"
done
