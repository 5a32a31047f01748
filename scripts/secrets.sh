#!/bin/sh
# Make the secrets that docker-compose.yml reads, once: random. The folder is closed to other users of this machine;
# the files are readable inside the containers they are mounted into, whose users differ.
set -eu
folder="${NAS_SECRETS:-./secrets}"
mkdir -p "$folder"
chmod 700 "$folder"
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
write() { [ -s "$folder/$1" ] || { umask 022; printf '%s' "$2" >"$folder/$1"; }; }
write database_password "$(random)"
write database_url "postgresql://nas:$(cat "$folder/database_password")@database:5432/nas"
write ray_token "$(random)"
echo "secrets in $folder"
