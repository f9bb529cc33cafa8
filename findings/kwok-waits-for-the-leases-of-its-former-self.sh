#!/usr/bin/env bash
# Package: sigs.k8s.io/kwok v0.8.0 (pkg/kwok/controllers, on which its command rests), over client-go's fake clientset.
# Behaviour: a kubelet that starts again finds its node's Lease in its own name and goes on at once, so one would expect
# the same of kwok, which plays kubelets. Each start of kwok has a random identity, and no flag sets it. To the next one
# the Leases are a stranger's: it leaves every node alone, and its pods neither start nor end, until they have run out
# (--node-lease-duration-seconds). Its log has nothing above debug. With the Leases deleted it goes on at once.
# Output seen on 2026-11-28: see EXPECTED. The script fails if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > go.mod <<'GO'
module finding

go 1.26.0

require (
	k8s.io/api v0.36.1
	k8s.io/apimachinery v0.36.1
	k8s.io/client-go v0.36.1
	sigs.k8s.io/kwok v0.8.0
)
GO
cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	coordination "k8s.io/api/coordination/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/kwok/pkg/kwok/controllers"
)

const seconds = 5

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// A kwok that begins to look after the node n. The answer says whether it does so yet.
func start(client kubernetes.Interface) (manages func() bool, stop func()) {
	ctx, stop := context.WithCancel(context.Background())
	identity, err := controllers.Identity()
	must(err)
	var managed atomic.Bool
	leases := client.CoordinationV1().Leases("kube-node-lease")
	controller, err := controllers.NewNodeLeaseController(controllers.NodeLeaseControllerConfig{
		TypedClient: client, HolderIdentity: identity, LeaseDurationSeconds: seconds, LeaseParallelism: 1,
		RenewInterval: seconds * time.Second / 4, OnNodeManagedFunc: func(string) { managed.Store(true) },
		GetLease: func(name string) (*coordination.Lease, bool) {
			lease, err := leases.Get(ctx, name, meta.GetOptions{})
			if err != nil {
				return nil, false
			}
			return lease, true
		}})
	must(err)
	must(controller.Start(ctx))
	controller.TryHold("n")
	return managed.Load, stop
}

func wait(manages func() bool) time.Duration {
	began := time.Now()
	for !manages() {
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(began)
}

func main() {
	client := fake.NewClientset()
	first, stop := start(client)
	fmt.Println("first start, at once:", wait(first) < time.Second)
	stop()

	second, stop := start(client)
	took := wait(second)
	fmt.Println("second start, at once:", took < time.Second)
	fmt.Println("second start, once the lease of 5 s has run out:", took > seconds*time.Second/2)
	stop()

	must(client.CoordinationV1().Leases("kube-node-lease").Delete(context.Background(), "n", meta.DeleteOptions{}))
	third, stop := start(client)
	fmt.Println("third start, its lease was deleted, at once:", wait(third) < time.Second)
	stop()
}
GO
go mod tidy >/dev/null 2>&1
read -r -d '' EXPECTED <<'TEXT' || true
first start, at once: true
second start, at once: false
second start, once the lease of 5 s has run out: true
third start, its lease was deleted, at once: true
TEXT
found=$(go run . 2>/dev/null)
echo "$found"
diff <(echo "$EXPECTED") <(echo "$found")
