#!/usr/bin/env bash
# Puts what an APK is made with and newer Debians lack beside the tests, in sdk/: Debian 11's framework of API 23
# and its dexer. Its packages are verified with Debian's keys and unpacked; this system's own packages, sources and
# lists stay as they are.
set -euo pipefail
cd "$(dirname "$0")"
[ -e sdk/complete ] && exit

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{lists,cache,packages}/partial
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | grep -m 1 '/debian/*$' || true)
if [ -z "$mirror" ]; then
    echo "no Debian mirror is known here: run apt-get update first, or set ANDROID_HOME to an Android SDK" >&2
    exit 1
fi
echo "deb [signed-by=$keys] $mirror bullseye main" >"$scratch/sources.list"
options=(
    -o "Dir::Etc::SourceList=$scratch/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$scratch/lists" -o "Dir::Cache=$scratch/cache" -o APT::Sandbox::User=root
    -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o Acquire::Languages=none
)
apt-get "${options[@]}" update -qq
(cd "$scratch/packages" && apt-get "${options[@]}" download -qq libandroid-23-java dalvik-exchange)
rm -rf sdk
for package in "$scratch"/packages/*.deb; do
    dpkg-deb -x "$package" sdk
done
touch sdk/complete
