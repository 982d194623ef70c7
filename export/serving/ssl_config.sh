#!/usr/bin/env bash
# ssl_config.sh KEY CERTIFICATE [CLIENT_CA] > ssl.config: a tensorflow.serving.SSLConfig of files in PEM, for
# --ssl_config_file. With CLIENT_CA only clients with a certificate that it signed are let in.
set -euo pipefail
quoted() { awk '{ printf "%s\\n", $0 }' "$1"; }
printf 'server_key: "%s"\nserver_cert: "%s"\n' "$(quoted "$1")" "$(quoted "$2")"
if [ $# -gt 2 ]; then
    printf 'custom_ca: "%s"\nclient_verify: true\n' "$(quoted "$3")"
fi
