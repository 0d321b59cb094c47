#!/bin/sh
# Installs what only one suite or generator needs, beside it: each FOLDER has its own package.json and package-lock.json.
#   runtime/install.sh FOLDER...
set -eu
for folder; do
  installed=$folder/node_modules/.installed.json
  cmp -s "$folder/package-lock.json" "$installed" && continue
  npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error
  cp "$folder/package-lock.json" "$installed"
done
