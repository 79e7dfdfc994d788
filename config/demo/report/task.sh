#!/bin/sh
# The input is JSON on standard input: kindling run report --input '"one two three"'
input=$(cat)
echo "read ${#input} characters" >&2
printf '%s\n' "$input" | wc -w | tr -d ' '
