#!/bin/sh
# ssh or ssh-keygen of the host that does what the list of faults says of it; then what the real one does.
# Installed under their names by parts.py, first on bangerd's PATH; WHO of a line is found among its arguments.
# Never reaches a guest: there is none, ssh takes what it is given and says well done.
name=${0##*/}
how_now() {
    /usr/bin/awk -v said="$PWD $words" -v name="$name" '
        $0 == "" { exit }
        $2 == name && ($1 == "*" || index(said, $1)) { how = $3 }
        END { print how }' LIST
}
words=$*
how=$(how_now)
case $how in
slow:*) sleep 0.5 ;;
esac
while [ "$how" = silent ]; do
    sleep 0.05
    how=$(how_now)
done
if [ "$how" = fail ]; then
    echo "$name: as it was told" >&2
    exit 255
fi
case $name:$words in
ssh:*reboot*) exit 255 ;;
ssh:*) exec cat >/dev/null ;;
esac
exec "/usr/bin/$name" "$@"
