#!/usr/bin/env bash
# Package: tags.cncf.io/container-device-interface v1.1.2 (pkg/cdi, with which containerd and CRI-O give devices to
# containers).
# Behaviour: if several spec files describe one device, the package promises the one of the folder with the highest
# priority (/var/run/cdi before /etc/cdi), and two files of one folder make the device unusable. So one would expect a
# file in /var/run/cdi to settle whatever lies in /etc/cdi. It settles one file there, but not two: if these clash, the
# device is gone with all three, and a container that names it is refused. Other devices of the files work.
# Output seen on 2026-11-28: see EXPECTED. The script fails if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > go.mod <<'GO'
module finding

go 1.26.0

require (
	github.com/opencontainers/runtime-spec v1.3.0
	tags.cncf.io/container-device-interface v1.1.2
)
GO
cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	runtime "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"
)

const spec = `{"cdiVersion": "0.6.0", "kind": "example.com/gpu", "devices": [
	{"name": "0", "containerEdits": {"env": ["GPU=FILE"]}}, {"name": "of-FILE", "containerEdits": {"env": ["A=b"]}}]}`

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// A container names the device 0, which these files describe.
func try(files ...string) {
	root, err := os.MkdirTemp("", "")
	must(err)
	defer os.RemoveAll(root)
	low, high := filepath.Join(root, "etc"), filepath.Join(root, "run")
	must(os.Mkdir(low, 0o755))
	must(os.Mkdir(high, 0o755))
	for _, file := range files {
		text := strings.ReplaceAll(spec, "FILE", strings.ReplaceAll(file, "/", "-"))
		must(os.WriteFile(filepath.Join(root, file+".json"), []byte(text), 0o644))
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(low, high), cdi.WithAutoRefresh(false))
	must(err)
	container := &runtime.Spec{}
	fmt.Print(strings.Join(files, ", "), ": ")
	if _, err := cache.InjectDevices(container, "example.com/gpu=0"); err != nil {
		fmt.Println("refused; there are", cache.ListDevices())
		return
	}
	fmt.Println(container.Process.Env[0])
}

func main() {
	try("etc/a")
	try("etc/a", "run/a")
	try("etc/a", "etc/b")
	try("etc/a", "etc/b", "run/a")
}
GO
go mod tidy >/dev/null 2>&1
read -r -d '' EXPECTED <<'TEXT' || true
etc/a: GPU=etc-a
etc/a, run/a: GPU=run-a
etc/a, etc/b: refused; there are [example.com/gpu=of-etc-a example.com/gpu=of-etc-b]
etc/a, etc/b, run/a: refused; there are [example.com/gpu=of-etc-a example.com/gpu=of-etc-b example.com/gpu=of-run-a]
TEXT
found=$(go run .)
echo "$found"
diff <(echo "$EXPECTED") <(echo "$found")
