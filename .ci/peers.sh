#!/bin/sh
# Programs that others wrote and that the tests talk to. Root gets what is missing from apt; nobody else is changed,
# and then it says which tests are skipped.
set -u
python=${1:-python3}

# program, package, what goes without it
missing() {
    while read -r program package what; do
        PATH="$PATH:/usr/sbin:/usr/local/sbin:/sbin" command -v "$program" >/dev/null 2>&1 || echo "$package $what"
    done <<LIST
mosquitto mosquitto everything over a real MQTT broker
mosquitto_pub mosquitto-clients MQTT against an independent client
coap-client-notls libcoap3-bin CoAP against an independent client
tshark tshark what goes over the wire against independent dissectors
node nodejs the device agents under MicroPython
npm npm the device agents under MicroPython
LIST
}

packages=$(missing | cut -d ' ' -f 1 | tr '\n' ' ')
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing for the tests: $packages"
    # RUNLEVEL=1: the broker's own service is not started, the tests start theirs.
    install() {
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $packages >"$log" 2>&1
    }
    log=$(mktemp)
    install || { apt-get update -qq >>"$log" 2>&1 && install; } || { echo "apt-get failed:"; tail -n 3 "$log"; }
    rm -f "$log"
fi
missing | while read -r package what; do
    echo "skipped, $package is not installed (apt install $package): $what"
done

script=tests/device_agents/micropython/install.sh
if [ -f "$script" ] && command -v npm >/dev/null 2>&1; then
    # It says itself what is skipped, and fails only where nothing may be.
    sh "$script" || exit 1
fi
exit 0
