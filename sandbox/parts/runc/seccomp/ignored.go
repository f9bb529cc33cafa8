// Package seccomp stands in, when the sandbox builds runc, for runc's own package without libseccomp.
//
// The kubelet asks for a seccomp filter on every pod's pause container and cannot be told not to. A runc built without
// libseccomp (a C library that a fresh machine lacks) refuses such a pod. Here it runs the container unfiltered instead,
// which is fit for a sandbox and for nothing else.
package seccomp

import (
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Enabled tells `runc features` that no filter is ever applied.
const Enabled = false

// InitSeccomp applies no filter.
func InitSeccomp(*configs.Seccomp) (int, error) { return -1, nil }

// FlagSupported accepts every flag of a filter that is not applied.
func FlagSupported(specs.LinuxSeccompFlag) error { return nil }

// Version is that of no library.
func Version() (uint, uint, uint) { return 0, 0, 0 }
