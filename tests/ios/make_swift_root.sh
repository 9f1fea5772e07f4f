#!/bin/sh
# Unpacks Debian 13's Swift compiler into a folder, for tests/ios/test_swift.py on systems without one:
#   tests/ios/make_swift_root.sh DIR && EDGELLM_SWIFT_ROOT=DIR pytest tests/ios/test_swift.py
# Takes 0.6 GB to download and 2.5 GB of disk, on Debian for x86-64 or AArch64; nothing is installed. Needs root, as the
# tests then do, which enter the folder with chroot.
set -eu
[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
root=$(cd "$1" && pwd)
apt=$root/.apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/state" "$apt/parts"
# Debian's packages come from where this system's do.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | head -n 1)
[ -n "$mirror" ] || { echo "$0: apt knows no Debian mirror; run apt-get update first" >&2; exit 1; }
cat > "$apt/parts/debian.sources" <<END
Types: deb
URIs: $mirror
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
cat > "$apt/apt.conf" <<END
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$apt/parts";
Dir::State "$apt/state";
Dir::State::Lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
END
: > "$apt/status"
export APT_CONFIG="$apt/apt.conf" DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends --download-only swiftlang swiftlang-dev libc6-dev libstdc++-14-dev bash coreutils
for folder in bin lib lib64 sbin; do
    mkdir -p "$root/usr/$folder"
    [ -e "$root/$folder" ] || ln -s "usr/$folder" "$root/$folder"
done
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$root"
done
rm -rf "$apt"
mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/etc/ld.so.conf.d"
[ -e "$root/usr/bin/sh" ] || ln -s bash "$root/usr/bin/sh"
echo /usr/libexec/swift/lib/swift/linux > "$root/etc/ld.so.conf.d/swift.conf"
echo 'include /etc/ld.so.conf.d/*.conf' > "$root/etc/ld.so.conf"
ldconfig -r "$root"
