#!/usr/bin/env bash
# Package: k8s.io/dynamic-resource-allocation v0.36.3 (deviceclass/extendedresourcecache, by which kube-scheduler 1.36
# finds the DeviceClass of an extended resource).
# Behaviour: two DeviceClasses may have one `extendedResourceName`; to let people move from one to the other, the newer
# one serves it. So one would expect that deleting the older one changes nothing. It takes the resource away from the
# newer one, which stays without it until it is updated or the scheduler starts again. And a class has a resource
# `deviceclass.resource.kubernetes.io/NAME` of its own, but the older one has none if the newer one was seen first, not
# even when it is the only one left.
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
	k8s.io/klog/v2 v2.140.0
)
GO
cat > main.go <<'GO'
package main

import (
	"fmt"
	"time"

	core "k8s.io/api/core/v1"
	api "k8s.io/api/resource/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/dynamic-resource-allocation/deviceclass/extendedresourcecache"
	"k8s.io/klog/v2"
)

const gpu = "example.com/gpu"

func class(name string, day int) *api.DeviceClass {
	resource := gpu
	made := meta.NewTime(time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC))
	return &api.DeviceClass{ObjectMeta: meta.ObjectMeta{Name: name, CreationTimestamp: made},
		Spec: api.DeviceClassSpec{ExtendedResourceName: &resource}}
}

type classes struct{ *extendedresourcecache.ExtendedResourceCache }

// The class behind the shared resource, and the one behind the resource of each class.
func (c classes) say(title string) {
	fmt.Print(title, ":")
	for _, resource := range []string{gpu, api.ResourceDeviceClassPrefix + "old", api.ResourceDeviceClassPrefix + "new"} {
		name := "none"
		if found := c.GetDeviceClass(core.ResourceName(resource)); found != nil {
			name = found.Name
		}
		fmt.Print(" ", name)
	}
	fmt.Println()
}

func empty() classes {
	return classes{extendedresourcecache.NewExtendedResourceCache(klog.Background())}
}

func main() {
	older, newer := class("old", 1), class("new", 2)
	labelled := newer.DeepCopy()
	labelled.Labels = map[string]string{"a": "b"}

	c := empty()
	c.OnAdd(older, true)
	c.say("old")
	c.OnAdd(newer, false)
	c.say("old, then new")
	c.OnDelete(older)
	c.say("old is deleted")
	c.OnUpdate(newer, labelled)
	c.say("new gets a label")

	c = empty()
	c.OnAdd(newer, true)
	c.OnAdd(older, true)
	c.say("listed as new, old")
	c.OnDelete(newer)
	c.say("new is deleted")
}
GO
go mod tidy >/dev/null 2>&1
read -r -d '' EXPECTED <<'TEXT' || true
old: old old none
old, then new: new old new
old is deleted: none none new
new gets a label: new none new
listed as new, old: new none new
new is deleted: none none none
TEXT
found=$(go run .)
echo "$found"
diff <(echo "$EXPECTED") <(echo "$found")
