# Removes one lab: its processes, namespaces, mounts, cgroups and files, and nothing else.
# Arguments: the lab's name, its folder, and where cgroup2 is mounted.
# Deleting what is gone already is success, so nothing here stops at a failure.
name=$1 dir=$2 cgroup2=$3
case $name in steer-lab-*) ;; *) echo "not a lab's name: $name" >&2; exit 2 ;; esac

pids() {
    find "$cgroup2/$name" -name cgroup.procs -exec cat {} + 2>/dev/null
    for netns in /run/netns/"$name"-*; do
        [ -e "$netns" ] && ip netns pids "${netns##*/}" 2>/dev/null
    done
}

tries=0
while left=$(pids | grep -vx "$$") && [ -n "$left" ] && [ $tries -lt 200 ]; do
    kill -9 $left 2>/dev/null
    tries=$((tries + 1))
    sleep 0.05
done

awk -v dir="$dir/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts | sort -r |
    while read -r mount; do umount -l "$mount"; done
for netns in /run/netns/"$name"-*; do
    [ -e "$netns" ] && ip netns del "${netns##*/}"
done
# Docker on a hybrid layout makes cgroups in each of the version 1 hierarchies too.
awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/self/mounts | while read -r mount; do
    [ -d "$mount/$name" ] && find "$mount/$name" -depth -type d -exec rmdir {} + 2>/dev/null
done
rm -rf --one-file-system "$dir"
