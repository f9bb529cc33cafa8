#!/usr/bin/env bash
# Package: k8s.io/kubernetes v1.36.3, its pkg/scheduler with the default profile, over client-go's fake clientset. The
# first run compiles the scheduler (two to four minutes on two idle cores).
# Behaviour: a pod that cannot be scheduled gets the condition PodScheduled=False with the reason, and an Event, as one
# does whose PersistentVolumeClaim does not exist. A pod whose ResourceClaim does not exist, or has not been made from
# its ResourceClaimTemplate, gets neither. It is held back before the queue, so to autoscalers, alerts and people who
# look at conditions and Events it is a pod that no scheduler has seen.
# Output seen on 2026-11-28: see EXPECTED. The script fails if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
{
    printf 'module finding\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes v1.36.3\n\nreplace (\n'
    for part in api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider \
        cluster-bootstrap code-generator component-base component-helpers controller-manager cri-api cri-client \
        cri-streaming csi-translation-lib dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator \
        kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics mount-utils pod-security-admission \
        sample-apiserver streaming; do
        printf '\tk8s.io/%s => k8s.io/%s v0.36.3\n' "$part" "$part"
    done
    printf ')\n'
} > go.mod
cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/events"
	"k8s.io/kubernetes/pkg/scheduler"
)

var missing = "missing"

func pod(name string, spec core.PodSpec) *core.Pod {
	spec.SchedulerName = "default-scheduler"
	spec.Containers = []core.Container{{Name: "main", Image: "app"}}
	return &core.Pod{ObjectMeta: meta.ObjectMeta{Name: name, Namespace: "d", UID: types.UID(name)}, Spec: spec}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	nine := resource.MustParse("9")
	room := core.ResourceList{"cpu": nine, "memory": nine, "pods": nine}
	node := &core.Node{ObjectMeta: meta.ObjectMeta{Name: "n"}, Status: core.NodeStatus{Capacity: room, Allocatable: room}}
	volume := core.VolumeSource{PersistentVolumeClaim: &core.PersistentVolumeClaimVolumeSource{ClaimName: missing}}
	pods := []*core.Pod{
		pod("no ResourceClaim", core.PodSpec{
			ResourceClaims: []core.PodResourceClaim{{Name: "c", ResourceClaimName: &missing}}}),
		pod("no ResourceClaimTemplate", core.PodSpec{
			ResourceClaims: []core.PodResourceClaim{{Name: "c", ResourceClaimTemplateName: &missing}}}),
		pod("no PersistentVolumeClaim", core.PodSpec{Volumes: []core.Volume{{Name: "v", VolumeSource: volume}}}),
	}
	client, recorder := fake.NewClientset(node, pods[0], pods[1], pods[2]), events.NewFakeRecorder(100)
	informers := scheduler.NewInformerFactory(client, 0)
	made, err := scheduler.New(ctx, client, informers, nil,
		func(string) events.EventRecorderLogger { return recorder })
	must(err)
	informers.Start(ctx.Done())
	informers.WaitForCacheSync(ctx.Done())
	must(made.WaitForHandlersSync(ctx))
	go made.Run(ctx)

	fmt.Println("event:", <-recorder.Events)
	time.Sleep(5 * time.Second)
	waiting, _ := made.SchedulingQueue.PendingPods()
	fmt.Println("pods that wait:", len(waiting), "further events:", len(recorder.Events))
	for _, each := range pods {
		now, err := client.CoreV1().Pods("d").Get(ctx, each.Name, meta.GetOptions{})
		must(err)
		fmt.Print(each.Name, ": ")
		if len(now.Status.Conditions) == 0 {
			fmt.Println("no condition")
		}
		for _, condition := range now.Status.Conditions {
			fmt.Println(condition.Type, condition.Status, condition.Reason)
		}
	}
}
GO
go mod tidy >/dev/null 2>&1
read -r -d '' EXPECTED <<'TEXT' || true
event: Warning FailedScheduling 0/1 nodes are available: persistentvolumeclaim "missing" not found. not found
pods that wait: 3 further events: 0
no ResourceClaim: no condition
no ResourceClaimTemplate: no condition
no PersistentVolumeClaim: PodScheduled False Unschedulable
TEXT
found=$(go run . 2>/dev/null)
echo "$found"
diff <(echo "$EXPECTED") <(echo "$found")
