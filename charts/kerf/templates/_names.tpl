{{/* Labels of every object; give (dict "root" $ "component" "scheduler"), and labels for further ones. */}}
{{- define "kerf.labels" -}}
{{ include "kerf.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with mergeOverwrite (dict) (.root.Values.global.labels | default dict) (.labels | default dict) }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "kerf.selector" -}}
app.kubernetes.io/name: kerf
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* metadata of an object: name, namespace unless it is cluster-scoped, labels, annotations.
     Give root, component, name, cluster: true where it has no namespace, and labels for further ones. */}}
{{- define "kerf.metadata" -}}
name: {{ .name }}
{{- if not .cluster }}
namespace: {{ .root.Release.Namespace }}
{{- end }}
labels:
  {{- include "kerf.labels" . | nindent 2 }}
{{- with .root.Values.global.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An image; give root, image, and tag to use where the image names none. */}}
{{- define "kerf.image" -}}
{{- $registry := .image.registry | default .root.Values.global.imageRegistry -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ .image.repository }}:{{ .image.tag | default .tag }}
{{- end }}

{{- define "kerf.tag" -}}
{{ .Values.global.imageTag | default .Chart.AppVersion }}
{{- end }}

{{- define "kerf.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Environment of every container: its pod, and the API server's address where the kubelet's does not work. */}}
{{- define "kerf.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
{{- with .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
{{- end }}
{{- with .Values.apiServer.port }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ . | quote }}
- name: KUBERNETES_SERVICE_PORT_HTTPS
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* What every unprivileged container is held to. */}}
{{- define "kerf.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Replicas on different nodes; give root, component, affinity. */}}
{{- define "kerf.affinity" -}}
affinity:
{{- if .affinity }}
  {{- toYaml .affinity | nindent 2 }}
{{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "kerf.selector" . | nindent 14 }}
{{- end }}
{{- end }}

{{/* Whether the extender's clients show certificates; empty for no. */}}
{{- define "kerf.extenderTLS" -}}
{{- $source := .Values.scheduler.extender.tls.source -}}
{{- if ne $source "none" }}
{{- if and (eq $source "self-managed") (not (and .Values.webhook.enabled (eq .Values.webhook.certificates.source "self-managed"))) }}
{{- fail "scheduler.extender.tls.source: self-managed: the webhook makes the certificate where it makes its own; write secret, or let webhook.certificates.source be self-managed" }}
{{- end }}
{{- $source -}}
{{- end }}
{{- end }}

{{/* The volume of the extender's certificates, without their authority's key; give root, optional. */}}
{{- define "kerf.extenderVolume" -}}
- name: extender-tls
  secret:
    secretName: {{ .root.Values.scheduler.extender.tls.secretName }}
    {{- if .optional }}
    optional: true
    {{- end }}
    items: [{key: ca.crt, path: ca.crt}, {key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
{{- end }}

{{/* A rolling upgrade never has fewer replicas than asked for, unless they share the node's ports. */}}
{{- define "kerf.strategy" -}}
strategy:
  type: RollingUpdate
  rollingUpdate:
    {{- if .hostNetwork }}
    maxUnavailable: 1
    maxSurge: 0
    {{- else }}
    maxUnavailable: 0
    maxSurge: 1
    {{- end }}
{{- end }}

{{/* A service account's user name; give root, component. */}}
{{- define "kerf.user" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:kerf-{{ .component }}
{{- end }}

{{/* The API version under which ValidatingAdmissionPolicies are to be created, empty for none. */}}
{{- define "kerf.policyVersion" -}}
{{- $wanted := .Values.admissionPolicies.enabled -}}
{{- if eq (toString $wanted) "false" -}}
{{- else if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version -}}
admissionregistration.k8s.io/v1
{{- else if or (eq (toString $wanted) "true") (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1beta1/ValidatingAdmissionPolicy") -}}
admissionregistration.k8s.io/v1beta1
{{- end -}}
{{- end }}

{{/* The vendors in use, by name, as JSON: what Kerf knows of each (files/vendors.json), what a description says, and on
     top what values say. */}}
{{- define "kerf.vendors" -}}
{{- $known := .Files.Get "files/vendors.json" | fromJson }}
{{- $all := dict }}
{{- range $name, $given := .Values.vendors }}
{{- $v := deepCopy (index $known $name | default dict) }}
{{- with index $.Values.vendorDescriptions $name }}
{{- $words := .words | default dict }}
{{- $v = dict "resourceName" $words.count "resourceMem" $words.memory "resourceCores" $words.cores "ownPlugin" true "counted" .kubeSchedulerCounts "annotations" (concat (keys (.annotations | default dict)) (.pluginNotes | default list) | sortAlpha) "lock" (.lock | default "") }}
{{- end }}
{{- $v = mergeOverwrite $v (deepCopy ($given | default dict)) }}
{{- if not $v.resourceName }}
{{- fail (printf "vendors: Kerf does not know the vendor %s: describe it in vendorDescriptions, or write one of %s" $name (keys $known | sortAlpha | join ", ")) }}
{{- end }}
{{- $_ := set $all $name $v }}
{{- end }}
{{- range $name, $_ := .Values.vendorDescriptions }}
{{- if not (hasKey $all $name) }}
{{- fail (printf "vendorDescriptions: %s is described and not in use: write vendors.%s: {} too" $name $name) }}
{{- end }}
{{- end }}
{{- $all | toJson }}
{{- end }}

{{/* Resources that only Kerf understands, as JSON: the words of the contract and what the webhook writes for quota. */}}
{{- define "kerf.ignored" -}}
{{- $all := list }}
{{- range $vendor, $v := include "kerf.vendors" . | fromJson }}
{{- range $word := list $v.resourceMem $v.resourceMemPercentage $v.resourceCores $v.resourcePriority }}
{{- with $word }}{{ $all = append $all . }}{{ end }}
{{- end }}
{{- range list "mib" "cores" "cards" }}{{ $all = append $all (printf "quota.kerf.dev/%s-%s" $vendor .) }}{{ end }}
{{- end }}
{{- $all | toJson }}
{{- end }}

{{/* Resources that the kubelet counts, one a vendor, as JSON. */}}
{{- define "kerf.counted" -}}
{{- $all := list }}
{{- range include "kerf.vendors" . | fromJson }}{{ $all = append $all .resourceName }}{{ end }}
{{- $all | toJson }}
{{- end }}

{{/* "yes" where the policy lets the scheduler act on faults, anywhere. */}}
{{- define "kerf.recovers" -}}
{{- $modes := list (default "observe" .Values.policy.recovery.mode) -}}
{{- range .Values.policy.pools }}{{ $modes = append $modes (default "observe" .recovery) }}{{ end -}}
{{- if or (has "cordon" $modes) (has "recover" $modes) }}yes{{ end -}}
{{- end }}

{{/* "yes" where the scheduler evicts what tenants borrow of others' guarantees. */}}
{{- define "kerf.reclaims" -}}
{{- $reclaim := default (dict) .Values.policy.quota.reclaim -}}
{{- if and .Values.quota.enabled (not .Values.quota.kueue.enabled) (ne (toString (default "evict" $reclaim.mode)) "wait") }}yes{{ end -}}
{{- end }}

{{/* "yes" where pods are deleted that no eviction removes before a deadline. */}}
{{- define "kerf.deletesPods" -}}
{{- $reclaim := default (dict) .Values.policy.quota.reclaim -}}
{{- $recovers := and (include "kerf.recovers" .) (eq (default "wait" .Values.policy.recovery.afterDeadline) "delete") -}}
{{- if or $recovers (and (include "kerf.reclaims" .) (ne (default "delete" $reclaim.afterDeadline) "wait")) }}yes{{ end -}}
{{- end }}

{{/* "yes" where the webhook asks the scheduler which kind of cards a pod gets, and can reach it. */}}
{{- define "kerf.choosesKinds" -}}
{{- $mode := "choose" -}}
{{- if hasKey .Values.policy.accepts "mode" }}{{ $mode = toString .Values.policy.accepts.mode }}{{ end -}}
{{- if and .Values.webhook.enabled (eq $mode "choose") (not .Values.scheduler.hostNetwork) }}yes{{ end -}}
{{- end }}

{{/* "yes" where the webhook has the scheduler count what Kubernetes allocates to claims. */}}
{{- define "kerf.countsClaims" -}}
{{- if and .Values.dra.enabled .Values.quota.enabled .Values.webhook.enabled (not .Values.scheduler.hostNetwork) }}yes{{ end -}}
{{- end }}

{{/* "yes" where the webhook asks the scheduler anything. */}}
{{- define "kerf.asksScheduler" -}}
{{- if or (include "kerf.choosesKinds" .) (include "kerf.countsClaims" .) }}yes{{ end -}}
{{- end }}

{{/* "yes" where the scheduler learns what servers of models hold. */}}
{{- define "kerf.learns" -}}
{{- if has (toString (default "off" .Values.policy.learning.mode)) (list "observe" "apply") }}yes{{ end -}}
{{- end }}

{{/* "yes" where a pool of the policy asks for MPS. */}}
{{- define "kerf.mps" -}}
{{- $modes := list -}}
{{- range .Values.policy.pools }}{{ $modes = append $modes (default "preload" .mode) }}{{ end -}}
{{- if or (has "mps" $modes) (has "auto" $modes) }}yes{{ end -}}
{{- end }}

{{/* "yes" where a pool of the policy has the driver keep the memory of pods. */}}
{{- define "kerf.driverLimits" -}}
{{- range .Values.policy.pools }}{{ if ne "never" (default "never" .driverLimits) }}yes{{ end }}{{ end -}}
{{- end }}

{{/* Annotations that the vendors' own device plugins obey on pods, as JSON; only the scheduler and they may write them. */}}
{{- define "kerf.pluginAnnotations" -}}
{{- $all := list }}
{{- range include "kerf.vendors" . | fromJson }}{{ $all = concat $all (.annotations | default list) }}{{ end }}
{{- $all | uniq | sortAlpha | toJson }}
{{- end }}

{{/* Annotations of users that the vendors' own device plugins obey when a pod starts, as JSON; a bound pod keeps them. */}}
{{- define "kerf.fixedAnnotations" -}}
{{- $all := list }}
{{- range include "kerf.vendors" . | fromJson }}{{ $all = concat $all (.fixed | default list) }}{{ end }}
{{- $all | uniq | sortAlpha | toJson }}
{{- end }}

{{/* Node locks of the vendors' own device plugins, as JSON. */}}
{{- define "kerf.locks" -}}
{{- $all := list }}
{{- range include "kerf.vendors" . | fromJson }}{{ with .lock }}{{ $all = append $all . }}{{ end }}{{ end }}
{{- $all | uniq | sortAlpha | toJson }}
{{- end }}

{{/* Users who may change what the scheduler wrote for a vendor's plugin: the plugins themselves, and trustedUsers; as JSON. */}}
{{- define "kerf.podWriters" -}}
{{- $all := .Values.trustedUsers }}
{{- range include "kerf.vendors" . | fromJson }}{{ $all = concat $all (.pluginUsers | default list) }}{{ end }}
{{- $all | uniq | toJson }}
{{- end }}

{{/* The vendors that the installation describes itself, as a volume, where it does. */}}
{{- define "kerf.describedVolume" -}}
{{- if .Values.vendorDescriptions }}
- name: vendors
  configMap: {name: kerf-vendors}
{{- end }}
{{- end }}

{{- define "kerf.describedMount" -}}
{{- if .Values.vendorDescriptions }}
- {name: vendors, mountPath: /etc/kerf-vendors, readOnly: true}
{{- end }}
{{- end }}

{{- define "kerf.describedFlag" -}}
{{- if .Values.vendorDescriptions }}
- --vendors=/etc/kerf-vendors
{{- end }}
{{- end }}
