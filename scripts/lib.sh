# shellcheck shell=bash
# What the scripts beside this file share. Sourcing it leads into the project's folder.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck disable=SC2034 # for the scripts
dev=$PWD/.dev # all that development leaves behind; `make clean-dev` removes it

say() { printf '%s\n' "$*" >&2 || true; } # the terminal may be gone
fail() {
    say "error: $*"
    exit 1
}

# limited SECONDS COMMAND…: gives a command that much time (where `timeout` exists).
limited() {
    if command -v timeout >/dev/null; then timeout "$@"; else "${@:2}"; fi
}

# answers HOST PORT: something accepts connections there.
answers() {
    # shellcheck disable=SC2016 # the inner shell expands these
    limited 5 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null
}

# free_port FIRST: the first port from there on where nothing answers.
free_port() {
    local port=$1
    while answers 127.0.0.1 "$port"; do port=$((port + 1)); done
    echo "$port"
}

# http_get HOST PORT PATH: the whole response, head and body.
http_get() {
    # shellcheck disable=SC2016 # the inner shell expands these
    limited 5 bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET %s HTTP/1.0\r\n\r\n" "$2" >&3 && cat <&3' \
        "$@" 2>/dev/null
}

# load_env FILE: exports its NAME=VALUE lines. What is set already stays as it is.
load_env() {
    local line name value
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line#export } name=${line%%=*} value=${line#*=}
        [[ $line = *=* && $name =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || continue
        [ -z "${!name+set}" ] || continue
        if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
        export "$name=$value"
    done <"$1"
}

# process_args PID: the command line of a process, empty when there is none.
process_args() {
    if [ -d /proc/self ]; then
        tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" || true
    else
        ps -o args= -p "$1" || true
    fi
}

# build [CARGO_ARGUMENT…]: compiles the workspace, or what the arguments name, and sets `bin` to the folder of its programs.
build() {
    command -v cargo >/dev/null || fail "cargo is not installed. Rust 1.95 or later comes from https://rustup.rs"
    command -v cc >/dev/null || fail "there is no C compiler, which one library needs (Debian, Ubuntu: apt-get install gcc)"
    bin=${CARGO_TARGET_DIR:-target}/${PROFILE:-debug}
    bin=${bin/%dev/debug} # cargo's name for that profile's folder
    [ -x "$bin/api" ] || say "The first build compiles some 400 libraries: about 4 minutes on two cores, longer with PROFILE=release."
    cargo build "${@:---workspace}" ${PROFILE:+--profile "$PROFILE"}
}
