#!/usr/bin/env bash
# Package: k8s.io/dynamic-resource-allocation v0.36.3 (structured.NewAllocator, which kube-scheduler 1.36 calls).
# Behaviour: a selector that reads an attribute which some devices lack ends the whole claim with an error, not with "no
# match", but only if the search reaches such a device. The same claim on the same slices is therefore allocated while an
# earlier device has room, and fails for good, with an error in place of "no room", once that device is taken. Whether it
# works also depends on the order in which the driver lists its devices.
# Output seen on 2026-11-27: see EXPECTED. The script fails if it changes.
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

type none struct{}

func (none) List() ([]*api.DeviceClass, error) { return nil, nil }
func (none) Get(name string) (*api.DeviceClass, error) {
	if name != "gpu" {
		return nil, errors.New("no such class")
	}
	return &api.DeviceClass{ObjectMeta: meta.ObjectMeta{Name: "gpu"}}, nil
}

func try(title string, taken []string, devices ...api.Device) {
	name, ctx := "n", context.Background()
	slice := &api.ResourceSlice{ObjectMeta: meta.ObjectMeta{Name: "s"}, Spec: api.ResourceSliceSpec{
		Driver: "d", NodeName: &name, Pool: api.ResourcePool{Name: "p", ResourceSliceCount: 1}, Devices: devices}}
	selector := api.DeviceSelector{CEL: &api.CELDeviceSelector{Expression: `device.attributes["d"].model == "big"`}}
	claim := &api.ResourceClaim{ObjectMeta: meta.ObjectMeta{Name: "c", UID: "u"}, Spec: api.ResourceClaimSpec{
		Devices: api.DeviceClaim{Requests: []api.DeviceRequest{{Name: "r", Exactly: &api.ExactDeviceRequest{
			DeviceClassName: "gpu", AllocationMode: api.DeviceAllocationModeExactCount, Count: 1,
			Selectors: []api.DeviceSelector{selector}}}}}}}
	state := structured.AllocatedState{AllocatedDevices: sets.New[structured.DeviceID](),
		AllocatedSharedDeviceIDs: sets.New[structured.SharedDeviceID](),
		AggregatedCapacity:       structured.NewConsumedCapacityCollection()}
	for _, device := range taken {
		state.AllocatedDevices.Insert(structured.MakeDeviceID("d", "p", device))
	}
	allocator, err := structured.NewAllocator(ctx, structured.Features{}, state, none{},
		[]*api.ResourceSlice{slice}, cel.NewCache(10, cel.Features{}))
	if err != nil {
		panic(err)
	}
	found, err := allocator.Allocate(ctx, &core.Node{ObjectMeta: meta.ObjectMeta{Name: name}}, []*api.ResourceClaim{claim})
	switch {
	case err != nil:
		fmt.Println(title+":", "error for the whole claim")
	case found == nil:
		fmt.Println(title+":", "no room")
	default:
		fmt.Println(title+":", found[0].Devices.Results[0].Device)
	}
}

func main() {
	big, model := "big", api.QualifiedName("model")
	has := func(name string) api.Device {
		return api.Device{Name: name, Attributes: map[api.QualifiedName]api.DeviceAttribute{model: {StringValue: &big}}}
	}
	lacks := api.Device{Name: "lacks"}
	try("a good card first", nil, has("good"), lacks)
	try("the good card is taken", []string{"good"}, has("good"), lacks)
	try("the other card first", nil, lacks, has("good"))
	try("only good cards, taken", []string{"good"}, has("good"))
}
GO
go mod tidy >/dev/null 2>&1
read -r -d '' EXPECTED <<'TEXT' || true
a good card first: good
the good card is taken: error for the whole claim
the other card first: error for the whole claim
only good cards, taken: no room
TEXT
found=$(go run .)
echo "$found"
diff <(echo "$EXPECTED") <(echo "$found")
