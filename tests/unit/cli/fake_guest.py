#!/usr/bin/python3
"""`banger-guest exec` in another language: a second opinion on the coding of words. --cwd is only printed."""
import os
import sys
import urllib.parse

words = sys.argv[2:]
assert sys.argv[1] == "exec"
if words[0] == "--cwd":
    print("cwd", urllib.parse.unquote(words[1]), file=sys.stderr)
    words = words[2:]
decoded = [b"" if word == "%00" else urllib.parse.unquote_to_bytes(word) for word in words]
sys.stdout.flush()
os.execvp(decoded[0], decoded)
