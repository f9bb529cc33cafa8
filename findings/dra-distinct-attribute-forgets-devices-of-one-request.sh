#!/usr/bin/env bash
# Package: k8s.io/dynamic-resource-allocation v0.36.3 (structured.NewAllocator, which kube-scheduler 1.36 calls).
# Behaviour: `distinctAttribute` promises that no two devices of a claim have the same value. The allocator remembers one
# value for each request, that of its last device. So a request for three devices gets a value twice as long as another
# one lies between them in the list, and so does a request beside one for two devices. Devices in another order, or one
# request for each device, get distinct values or none.
# Output seen on 2026-11-28: see EXPECTED. The script fails if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > go.mod <<'GO'
module finding

go 1.26.0

require (
	k8s.io/api v0.36.3
	k8s.io/apimachinery v0.36.3
	k8s.io/dynamic-resource-allocation v0.36.3
)
GO
cat > main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"

	core "k8s.io/api/core/v1"
	api "k8s.io/api/resource/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

type classes struct{}

func (classes) List() ([]*api.DeviceClass, error) { return nil, nil }
func (classes) Get(name string) (*api.DeviceClass, error) {
	if name != "gpu" {
		return nil, errors.New("no such class")
	}
	return &api.DeviceClass{ObjectMeta: meta.ObjectMeta{Name: "gpu"}}, nil
}

// One device for each rack, in this order; one request for each count.
func try(title string, racks []string, counts ...int64) {
	name, ctx, rack := "n", context.Background(), api.FullyQualifiedName("d/rack")
	var devices []api.Device
	for i := range racks {
		devices = append(devices, api.Device{Name: fmt.Sprintf("gpu-%d", i),
			Attributes: map[api.QualifiedName]api.DeviceAttribute{"rack": {StringValue: &racks[i]}}})
	}
	var requests []api.DeviceRequest
	for i, count := range counts {
		requests = append(requests, api.DeviceRequest{Name: fmt.Sprintf("r%d", i), Exactly: &api.ExactDeviceRequest{
			DeviceClassName: "gpu", AllocationMode: api.DeviceAllocationModeExactCount, Count: count}})
	}
	claim := &api.ResourceClaim{ObjectMeta: meta.ObjectMeta{Name: "c", UID: "u"}, Spec: api.ResourceClaimSpec{
		Devices: api.DeviceClaim{Requests: requests, Constraints: []api.DeviceConstraint{{DistinctAttribute: &rack}}}}}
	slice := &api.ResourceSlice{ObjectMeta: meta.ObjectMeta{Name: "s"}, Spec: api.ResourceSliceSpec{
		Driver: "d", NodeName: &name, Pool: api.ResourcePool{Name: "p", ResourceSliceCount: 1}, Devices: devices}}
	state := structured.AllocatedState{AllocatedDevices: sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection()}
	allocator, err := structured.NewAllocator(ctx, structured.Features{ConsumableCapacity: true}, state, classes{},
		[]*api.ResourceSlice{slice}, cel.NewCache(10, cel.Features{EnableConsumableCapacity: true}))
	if err != nil {
		panic(err)
	}
	found, err := allocator.Allocate(ctx, &core.Node{ObjectMeta: meta.ObjectMeta{Name: name}}, []*api.ResourceClaim{claim})
	if err != nil {
		panic(err)
	}
	fmt.Print(title, ": ")
	if found == nil {
		fmt.Println("no room")
		return
	}
	for _, result := range found[0].Devices.Results {
		for i, device := range devices {
			if device.Name == result.Device {
				fmt.Print(racks[i], " ")
			}
		}
	}
	fmt.Println()
}

func main() {
	try("racks a b a, one request for 3", []string{"a", "b", "a"}, 3)
	try("racks a a b, one request for 3", []string{"a", "a", "b"}, 3)
	try("racks a b a, three requests for 1", []string{"a", "b", "a"}, 1, 1, 1)
	try("racks a b a, requests for 2 and 1", []string{"a", "b", "a"}, 2, 1)
	try("racks a b c, one request for 3", []string{"a", "b", "c"}, 3)
}
GO
go mod tidy >/dev/null 2>&1
read -r -d '' EXPECTED <<'TEXT' || true
racks a b a, one request for 3: a b a 
racks a a b, one request for 3: no room
racks a b a, three requests for 1: no room
racks a b a, requests for 2 and 1: a b a 
racks a b c, one request for 3: a b c 
TEXT
found=$(go run .)
echo "$found"
diff -Z <(echo "$EXPECTED") <(echo "$found")
