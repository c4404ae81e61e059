# Installs Debian packages unless they are there. Sourced by the scripts beside this file and by tests/vm/run.
#
# install_packages PACKAGE…: a name may end in :ARCHITECTURE, which is added to dpkg's if it is another one.
# shellcheck shell=sh

install_packages() {
    missing_packages=
    for package in "$@"; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
            missing_packages="$missing_packages $package"
    done
    [ -n "$missing_packages" ] || return 0
    echo "installing:$missing_packages"
    for package in $missing_packages; do
        case $package in
        *:*) dpkg --add-architecture "${package##*:}" ;;
        esac
    done
    apt-get update -q
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing_packages
}
