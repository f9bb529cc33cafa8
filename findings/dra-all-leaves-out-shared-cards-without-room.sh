#!/usr/bin/env bash
# Package: k8s.io/dynamic-resource-allocation v0.36.3 (structured.NewAllocator, which kube-scheduler 1.36 calls).
# Behaviour: `allocationMode: All` promises every matching device, and finds no room while one of them is in use. That
# holds for exclusive devices. Of devices that claims share (allowMultipleAllocations), those without room for what the
# request asks are left out without a word: the claim is allocated with the others, be it one of three. `count: 3` on
# the same devices finds no room.
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
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/dynamic-resource-allocation/cel"
	"k8s.io/dynamic-resource-allocation/structured"
)

const node = "n"

type classes struct{}

func (classes) List() ([]*api.DeviceClass, error) { return nil, nil }
func (classes) Get(name string) (*api.DeviceClass, error) {
	if name != "gpu" {
		return nil, errors.New("no such class")
	}
	return &api.DeviceClass{ObjectMeta: meta.ObjectMeta{Name: "gpu"}}, nil
}

// Three cards of 80 GiB, a claim for 40 GiB of each, and other claims that hold 70 GiB of some.
func try(title string, shared bool, request api.ExactDeviceRequest, busy ...string) {
	var devices []api.Device
	for _, name := range []string{"gpu-0", "gpu-1", "gpu-2"} {
		devices = append(devices, api.Device{Name: name, AllowMultipleAllocations: &shared,
			Capacity: map[api.QualifiedName]api.DeviceCapacity{"memory": {Value: resource.MustParse("80Gi")}}})
	}
	request.DeviceClassName = "gpu"
	request.Capacity = &api.CapacityRequirements{
		Requests: map[api.QualifiedName]resource.Quantity{"memory": resource.MustParse("40Gi")}}
	claim := &api.ResourceClaim{ObjectMeta: meta.ObjectMeta{Name: "c", UID: "u"}, Spec: api.ResourceClaimSpec{
		Devices: api.DeviceClaim{Requests: []api.DeviceRequest{{Name: "r", Exactly: &request}}}}}
	slice := &api.ResourceSlice{ObjectMeta: meta.ObjectMeta{Name: "s"}, Spec: api.ResourceSliceSpec{Driver: "d",
		NodeName: &[]string{node}[0], Pool: api.ResourcePool{Name: "p", ResourceSliceCount: 1}, Devices: devices}}
	state := structured.AllocatedState{AllocatedDevices: sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection()}
	for _, name := range busy {
		held, id := resource.MustParse("70Gi"), structured.MakeDeviceID("d", "p", name)
		if shared {
			state.AggregatedCapacity[id] = structured.ConsumedCapacity{"memory": &held}
		} else {
			state.AllocatedDevices.Insert(id)
		}
	}
	ctx := context.Background()
	allocator, err := structured.NewAllocator(ctx, structured.Features{ConsumableCapacity: true}, state, classes{},
		[]*api.ResourceSlice{slice}, cel.NewCache(10, cel.Features{EnableConsumableCapacity: true}))
	if err != nil {
		panic(err)
	}
	found, err := allocator.Allocate(ctx, &core.Node{ObjectMeta: meta.ObjectMeta{Name: node}}, []*api.ResourceClaim{claim})
	if err != nil {
		panic(err)
	}
	fmt.Print(title, ":")
	if found == nil {
		fmt.Println(" no room")
		return
	}
	for _, result := range found[0].Devices.Results {
		fmt.Print(" ", result.Device)
	}
	fmt.Println()
}

func main() {
	all := api.ExactDeviceRequest{AllocationMode: api.DeviceAllocationModeAll}
	three := api.ExactDeviceRequest{AllocationMode: api.DeviceAllocationModeExactCount, Count: 3}
	try("exclusive, All", false, all)
	try("exclusive, All, gpu-1 in use", false, all, "gpu-1")
	try("shared, All", true, all)
	try("shared, All, gpu-1 without room", true, all, "gpu-1")
	try("shared, All, gpu-0 and gpu-1 without room", true, all, "gpu-0", "gpu-1")
	try("shared, count 3, gpu-1 without room", true, three, "gpu-1")
}
GO
go mod tidy >/dev/null 2>&1
read -r -d '' EXPECTED <<'TEXT' || true
exclusive, All: gpu-0 gpu-1 gpu-2
exclusive, All, gpu-1 in use: no room
shared, All: gpu-0 gpu-1 gpu-2
shared, All, gpu-1 without room: gpu-0 gpu-2
shared, All, gpu-0 and gpu-1 without room: gpu-2
shared, count 3, gpu-1 without room: no room
TEXT
found=$(go run .)
echo "$found"
diff <(echo "$EXPECTED") <(echo "$found")
