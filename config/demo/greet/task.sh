#!/bin/sh
# kindling run greet -p name=you -p times=3
i=0
while [ "$i" -lt "$PARAM_TIMES" ]; do
    i=$((i + 1))
    echo "greeting $PARAM_NAME, number $i" >&2
    echo "hello, $PARAM_NAME"
done
