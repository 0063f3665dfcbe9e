# Run by mmdebstrap(1) in the user namespace, with the new root as $1.
# Units that a throwaway VM only waits for are masked, files that belong to one machine are removed; names, network and keys
# come from banger-guest at boot.
set -eu
cd "$1"
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer logrotate.timer man-db.timer motd-news.timer getty@.service serial-getty@.service \
    console-getty.service systemd-firstboot.service systemd-machine-id-commit.service systemd-networkd.service \
    systemd-networkd.socket systemd-networkd-wait-online.service systemd-remount-fs.service \
    systemd-sysusers.service systemd-pstore.service systemd-boot-update.service systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service systemd-rfkill.socket kmod-static-nodes.service modprobe@.service \
    systemd-modules-load.service dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-fs-fuse-connections.mount sys-kernel-config.mount proc-sys-fs-binfmt_misc.automount; do
  ln -sf /dev/null "etc/systemd/system/$unit"
done
# Started when asked for: `poweroff` asks logind.
mkdir -p etc/systemd/system/multi-user.target.wants
for unit in dbus.service systemd-logind.service; do
  ln -sf /dev/null "etc/systemd/system/multi-user.target.wants/$unit"
done
ln -sf /lib/systemd/system/multi-user.target etc/systemd/system/default.target
mkdir -p etc/ssh/sshd_config.d
printf '%s\n' 'PermitRootLogin prohibit-password' 'PasswordAuthentication no' 'KbdInteractiveAuthentication no' \
    'UseDNS no' > etc/ssh/sshd_config.d/banger.conf
printf 'LANG=C.UTF-8\n' > etc/default/locale
printf '# Mounted by banger-guest before init starts.\n' > etc/fstab
: > etc/machine-id
rm -f etc/ssh/ssh_host_* etc/hostname etc/resolv.conf etc/apt/apt.conf.d/99mmdebstrap var/lib/dbus/machine-id
rm -f var/cache/debconf/*-old var/cache/ldconfig/aux-cache var/log/*.log var/log/apt/*
chmod 0700 root
