{{/* CEL, the language of matchConditions and ValidatingAdmissionPolicies. Nothing here may fail on any object: an
     expression that does counts as failurePolicy says, which is a refusal. */}}

{{/* Every resource that is Kerf's, as a CEL list. */}}
{{- define "kerf.cel.resources" -}}
{{ include "kerf.cel.list" (concat (include "kerf.counted" . | fromJsonArray) (include "kerf.ignored" . | fromJsonArray)) }}
{{- end }}

{{/* Whether something with `resources` names a card's resource; give root, of (a CEL term). */}}
{{- define "kerf.cel.asks" -}}
has({{ .of }}.resources) && {{ include "kerf.cel.resources" .root }}.exists(r,
  (has({{ .of }}.resources.limits) && r in {{ .of }}.resources.limits) || (has({{ .of }}.resources.requests) && r in {{ .of }}.resources.requests))
{{- end }}

{{/* Whether a pod's spec names a card's resource anywhere; give root, spec (a CEL term). */}}
{{- define "kerf.cel.mentions" -}}
({{ include "kerf.cel.asks" (dict "root" .root "of" .spec) }}) ||
(has({{ .spec }}.containers) && {{ .spec }}.containers.exists(c, {{ include "kerf.cel.asks" (dict "root" .root "of" "c") }})) ||
(has({{ .spec }}.initContainers) && {{ .spec }}.initContainers.exists(c, {{ include "kerf.cel.asks" (dict "root" .root "of" "c") }}))
{{- end }}

{{/* Whether a pod or a template names a model, which says what it needs; give a CEL term. */}}
{{- define "kerf.cel.namesModel" -}}
(has({{ . }}.metadata) && has({{ . }}.metadata.annotations) && 'kerf.dev/model' in {{ . }}.metadata.annotations)
{{- end }}

{{/* Whether a pod or a template says which kinds of cards it accepts; give a CEL term. */}}
{{- define "kerf.cel.accepts" -}}
(has({{ . }}.metadata) && has({{ . }}.metadata.annotations) && ['kerf.dev/accepts', 'kerf.dev/accepts-with'].exists(k, k in {{ . }}.metadata.annotations))
{{- end }}

{{/* Whether a pod or a template names a card's resource, a model or kinds of cards; give root, of (a CEL term). */}}
{{- define "kerf.cel.concerns" -}}
{{ include "kerf.cel.namesModel" .of }} ||
{{ include "kerf.cel.accepts" .of }} ||
{{ include "kerf.cel.mentions" (dict "root" .root "spec" (printf "%s.spec" .of)) }}
{{- end }}

{{/* Whether a key is one that only Kerf or HAMi's components write on a pod: kerf.wire.annotations says the same. */}}
{{- define "kerf.cel.owned" -}}
{{- $k := .k -}}
({{ $k }}.startsWith('kerf.dev/grant') || {{ $k }}.startsWith('kerf.dev/inventory') || {{ $k }}.startsWith('kerf.dev/plan') || {{ $k }}.startsWith('kerf.dev/reservation') ||
 {{ $k }} in ['hami.io/vgpu-node', 'hami.io/vgpu-time', 'hami.io/vgpu-mig-allocations', 'hami.io/bind-phase', 'hami.io/bind-time'] ||
 ({{ $k }}.startsWith('hami.io/') && ({{ $k }}.endsWith('-devices-to-allocate') || {{ $k }}.endsWith('-devices-allocated'))){{ range include "kerf.pluginAnnotations" .root | fromJsonArray }} || {{ $k }} == '{{ . }}'{{ end }})
{{- end }}

{{/* A map of an object's metadata, empty where there is none; give of (object or oldObject), part (annotations or labels). */}}
{{- define "kerf.cel.map" -}}
({{ .of }} != null && has({{ .of }}.metadata.{{ .part }}) ? {{ .of }}.metadata.{{ .part }} : {})
{{- end }}

{{/* Whether an update changes an owned key of annotations or labels. */}}
{{- define "kerf.cel.changesOwned" -}}
{{- $parts := list -}}
{{- range $part := list "annotations" "labels" -}}
{{- $new := include "kerf.cel.map" (dict "of" "object" "part" $part) -}}
{{- $old := include "kerf.cel.map" (dict "of" "oldObject" "part" $part) -}}
{{- $owned := include "kerf.cel.owned" (dict "root" $ "k" "k") -}}
{{- if eq $part "labels" }}{{ $owned = "k == 'hami.io/vgpu-node'" }}{{ end -}}
{{- $parts = append $parts (printf "%s.exists(k, %s && !(k in %s && %s[k] == %s[k]))" $new $owned $old $old $new) -}}
{{- $parts = append $parts (printf "%s.exists(k, %s && !(k in %s))" $old $owned $new) -}}
{{- end -}}
{{ join " ||\n" $parts }}
{{- end }}

{{/* Whether an update of a pod that asks for cards changes its owners, which Kueue counts instead of it. */}}
{{- define "kerf.cel.changesOwners" -}}
{{- $new := include "kerf.cel.path" (dict "of" "object" "path" "metadata.ownerReferences" "otherwise" "[]") -}}
{{- $old := include "kerf.cel.path" (dict "of" "oldObject" "path" "metadata.ownerReferences" "otherwise" "[]") -}}
(request.operation == 'UPDATE' && {{ $new }} != {{ $old }} && (
{{- include "kerf.cel.mentions" (dict "root" . "spec" "object.spec") }}))
{{- end }}

{{/* A list of strings. */}}
{{- define "kerf.cel.list" -}}
[{{ range $i, $one := . }}{{ if $i }}, {{ end }}'{{ $one }}'{{ end }}]
{{- end }}

{{/* A path that may be missing somewhere along the way; give of (object), path (metadata.labels), otherwise (a term). */}}
{{- define "kerf.cel.path" -}}
{{- $walked := .of -}}
{{- $has := list -}}
{{- range $part := splitList "." .path -}}
{{- $walked = printf "%s.%s" $walked $part -}}
{{- $has = append $has (printf "has(%s)" $walked) -}}
{{- end -}}
({{ join " && " $has }} ? {{ $walked }} : {{ .otherwise }})
{{- end }}

{{/* Whether an update leaves every key of a map alone but those of which `except` (a term over k) is true. */}}
{{- define "kerf.cel.onlyChanges" -}}
{{- /* dyn: the API server's type check does not know a node's capacity, and would warn at every install. */ -}}
{{- $new := include "kerf.cel.path" (dict "of" "dyn(object)" "path" .part "otherwise" "{}") -}}
{{- $old := include "kerf.cel.path" (dict "of" "dyn(oldObject)" "path" .part "otherwise" "{}") -}}
{{ $new }}.all(k, {{ .except }} || (k in {{ $old }} && {{ $old }}[k] == {{ $new }}[k])) &&
{{ $old }}.all(k, {{ .except }} || k in {{ $new }})
{{- end }}

{{/* Whether an update leaves these parts alone. */}}
{{- define "kerf.cel.same" -}}
{{- $terms := list -}}
{{- range $part := .parts -}}
{{- /* dyn, for the reason above. */ -}}
{{- $fresh := include "kerf.cel.there" (dict "of" "dyn(object)" "path" $part) -}}
{{- $was := include "kerf.cel.there" (dict "of" "dyn(oldObject)" "path" $part) -}}
{{- $terms = append $terms (printf "(%s ? (%s && dyn(object).%s == dyn(oldObject).%s) : !(%s))" $fresh $was $part $part $was) -}}
{{- end -}}
{{ join " &&\n" $terms }}
{{- end }}

{{/* Whether an update leaves every condition alone but the one of a type. */}}
{{- define "kerf.cel.otherConditions" -}}
{{- $new := include "kerf.cel.path" (dict "of" "object" "path" "status.conditions" "otherwise" "[]") -}}
{{- $old := include "kerf.cel.path" (dict "of" "oldObject" "path" "status.conditions" "otherwise" "[]") -}}
{{ $new }}.filter(c, c.type != '{{ . }}') == {{ $old }}.filter(c, c.type != '{{ . }}')
{{- end }}

{{/* Whether a path is there. */}}
{{- define "kerf.cel.there" -}}
{{- $walked := .of -}}
{{- $has := list -}}
{{- range $part := splitList "." .path -}}
{{- $walked = printf "%s.%s" $walked $part -}}
{{- $has = append $has (printf "has(%s)" $walked) -}}
{{- end -}}
{{ join " && " $has }}
{{- end }}

{{/* Whether k is an inventory: each vendor has its own. */}}
{{- define "kerf.cel.inventory" -}}
(k == 'kerf.dev/inventory' || k.startsWith('kerf.dev/inventory-'))
{{- end }}

{{/* Whether the annotations of which `key` (a term over k) is true do not change, or one of the users writes them. */}}
{{- define "kerf.cel.writtenBy" -}}
request.userInfo.username in {{ include "kerf.cel.list" .users }} ||
{{ include "kerf.cel.keeps" . }}
{{- end }}

{{/* Whether the annotations of which `key` (a term over k) is true do not change. */}}
{{- define "kerf.cel.keeps" -}}
{{- $new := include "kerf.cel.map" (dict "of" "object" "part" "annotations") -}}
{{- $old := include "kerf.cel.map" (dict "of" "oldObject" "part" "annotations") -}}
{{ $new }}.all(k, !{{ .key }} || (k in {{ $old }} && {{ $old }}[k] == {{ $new }}[k])) &&
{{ $old }}.all(k, !{{ .key }} || k in {{ $new }})
{{- end }}

{{/* Whether k is a resource that only Kerf understands. */}}
{{- define "kerf.cel.plenty" -}}
k in {{ include "kerf.cel.list" (include "kerf.ignored" . | fromJsonArray) }}
{{- end }}

{{/* Whether a claim is being allocated. */}}
{{- define "kerf.cel.newlyAllocated" -}}
has(object.status) && has(object.status.allocation) && (oldObject == null || !has(oldObject.status) || !has(oldObject.status.allocation))
{{- end }}

{{/* Whether an allocated claim holds a device of Kerf's. */}}
{{- define "kerf.cel.holdsOurs" -}}
{{- $results := "object.status.allocation.devices.results" -}}
has(object.status) && has(object.status.allocation) && has(object.status.allocation.devices) && has({{ $results }}) && dyn({{ $results }}) != null && {{ $results }}.exists(r, r.driver == 'gpu.kerf.dev')
{{- end }}
