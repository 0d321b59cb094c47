#!/bin/sh
# Installs the packages that only one test suite or generator needs, into its own FOLDER, which has a package.json and a package-lock.json.
#   runtime/install.sh FOLDER...
set -eu
for folder; do
  installed=$folder/node_modules/.installed.json
  cmp -s "$folder/package-lock.json" "$installed" && continue
  npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error
  cp "$folder/package-lock.json" "$installed"
done
