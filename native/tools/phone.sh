#!/bin/sh
# Measures a bundle on an Android phone over adb: phone.sh BUNDLE [--out FOLDER] [--program FILE] [--clean] [OPTION...]
#
# Puts the command-line program and the bundle on the phone, runs `edgellm-native bench` there with the other options
# (--prompt-tokens, --batches, --max-tokens, --repeats, --context, --device, ...), and fetches what it found:
# results.jsonl, log.txt, and phone.txt about the phone. docs/phones.md tells more.
#
# ADB: the adb to use. ANDROID_SERIAL: which phone, where there are several. PYTHON: one with edgellm, to build the
# program if none is given. PHONE_FOLDER: where things go on the phone; they stay there for the next time.
set -eu

say() { printf '%s\n' "$*" >&2; }
die() { say "phone.sh: $*"; exit 1; }

adb=${ADB:-adb}
folder=${PHONE_FOLDER:-/data/local/tmp/edgellm}
bundle='' out=phone-results program='' clean='' options=''

while [ $# -gt 0 ]; do
    case $1 in
    --out | --program)
        [ $# -gt 1 ] || die "$1 has no value"
        if [ "$1" = --out ]; then out=$2; else program=$2; fi
        shift
        ;;
    --clean) clean=yes ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *)
        if [ -z "$bundle" ] && [ "${1#-}" = "$1" ]; then
            bundle=$1
        else
            # The phone's shell takes these apart again.
            case $1 in *[!A-Za-z0-9,._=-]*) die "the option $1 has characters that are not passed on" ;; esac
            options="$options $1"
        fi
        ;;
    esac
    shift
done

[ -n "$bundle" ] || die "no bundle was named; see --help"
[ -f "$bundle/edgellm.json" ] || die "$bundle is no bundle: it has no edgellm.json"
case $folder in /*/*) ;; *) die "PHONE_FOLDER must be an absolute path below some folder" ;; esac
case $folder in *[!A-Za-z0-9/._-]*) die "PHONE_FOLDER has characters that are not passed on" ;; esac
command -v "$adb" >/dev/null 2>&1 || die "adb is not there: install Android's platform tools, or set ADB"
state=$("$adb" get-state 2>&1) || die "adb reaches no phone ($state): allow USB debugging on it, or set ANDROID_SERIAL"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

if [ -z "$program" ]; then
    say "building the program"
    ${PYTHON:-python3} -c '
import sys
from pathlib import Path
from edgellm.package.native_build import build_android_program
build_android_program(Path(sys.argv[1]))' "$scratch" || die "the program cannot be built; give one with --program"
    program=$scratch/edgellm-native
fi
[ -f "$program" ] || die "there is no program $program"

say "copying to $folder"
"$adb" shell "mkdir -p $folder && rm -f $folder/results.jsonl $folder/log.txt" || die "$folder cannot be made on the phone"
"$adb" push "$program" "$folder/edgellm-native" >/dev/null || die "the program cannot be copied"
"$adb" shell "chmod 755 $folder/edgellm-native"
# The manifest has the hashes of all other files, and the folder gets its name when everything is in it.
"$adb" shell "cat $folder/model/edgellm.json 2>/dev/null" >"$scratch/there.json" || :
if ! cmp -s "$scratch/there.json" "$bundle/edgellm.json"; then
    "$adb" shell "rm -rf $folder/model $folder/model.new && mkdir $folder/model.new"
    "$adb" push "$bundle/." "$folder/model.new/" >/dev/null || die "the bundle cannot be copied; is there room?"
    "$adb" shell "mv $folder/model.new $folder/model"
fi

mkdir -p "$out"
"$adb" shell "for one in ro.product.manufacturer ro.product.model ro.soc.model ro.hardware ro.board.platform \
ro.build.version.release ro.build.version.sdk ro.product.cpu.abi; do echo \$one: \$(getprop \$one); done; \
grep -E 'MemTotal|MemAvailable' /proc/meminfo; cat /proc/loadavg" >"$out/phone.txt" || :

say "measuring; leave the phone alone, its display on"
status=0
# The vendor's OpenCL is found by its path; apps declare it instead.
"$adb" shell "cd $folder && mkdir -p kernels && LD_LIBRARY_PATH=/vendor/lib64:/system/vendor/lib64 \
./edgellm-native bench model --cache kernels$options >results.jsonl 2>log.txt; echo \$? >status" || status=1
"$adb" pull "$folder/results.jsonl" "$out/results.jsonl" >/dev/null || status=1
"$adb" pull "$folder/log.txt" "$out/log.txt" >/dev/null || status=1
told=$("$adb" shell "cat $folder/status" | tr -d '\r\n') || told=none
[ -z "$clean" ] || "$adb" shell "rm -rf $folder"
if [ "$status" != 0 ] || [ "$told" != 0 ]; then
    [ ! -s "$out/log.txt" ] || cat "$out/log.txt" >&2
    die "the benchmark failed on the phone (status $told)"
fi
cat "$out/results.jsonl"
