{{- define "kerf.schedulerConfiguration" -}}
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection:
  qps: 1000
  burst: 1000
leaderElection:
  leaderElect: {{ .Values.scheduler.leaderElect }}
  {{- if .Values.scheduler.leaderElect }}
  resourceName: kerf-kube-scheduler
  resourceNamespace: {{ .Release.Namespace }}
  # Fail-over within five seconds: the defaults are 15, 10 and 2.
  leaseDuration: 4s
  renewDeadline: 3s
  retryPeriod: 500ms
  {{- end }}
percentageOfNodesToScore: 100
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: {{ .Values.scheduler.kubeScheduler.maxBackoffSeconds }}
profiles:
  {{- include "kerf.profile" . | nindent 2 }}
extenders:
  {{- include "kerf.extender" (dict "root" . "url" (printf "%s://127.0.0.1:%d" (ternary "https" "http" (include "kerf.extenderTLS" . | not | not)) (int .Values.scheduler.extender.port))) | nindent 2 }}
{{- end }}

{{/* The profile: what users wish outweighs the extender's order, and nothing blurs it. */}}
{{- define "kerf.profile" -}}
- schedulerName: {{ .Values.schedulerName }}
  plugins:
    score:
      enabled:
        - {name: NodeAffinity, weight: 100000}
        - {name: PodTopologySpread, weight: 100000}
        - {name: InterPodAffinity, weight: 100000}
        - {name: TaintToleration, weight: 100000}
      disabled:
        - {name: NodeAffinity}
        - {name: PodTopologySpread}
        - {name: InterPodAffinity}
        - {name: TaintToleration}
        - {name: NodeResourcesFit}
        - {name: NodeResourcesBalancedAllocation}
        - {name: ImageLocality}
  pluginConfig:
    - name: PodTopologySpread
      args: {defaultingType: List, defaultConstraints: []}
{{- end }}

{{- define "kerf.extender" -}}
{{- $values := .root.Values -}}
- urlPrefix: {{ .url }}
  filterVerb: filter
  prioritizeVerb: prioritize
  preemptVerb: preempt
  bindVerb: bind
  weight: {{ $values.scheduler.extender.weight }}
  nodeCacheCapable: true
  {{- if include "kerf.extenderTLS" .root }}
  enableHTTPS: true
  tlsConfig:
    serverName: kerf-scheduler.{{ .root.Release.Namespace }}.svc
    caFile: /etc/kerf-extender-tls/ca.crt
    certFile: /etc/kerf-extender-tls/tls.crt
    keyFile: /etc/kerf-extender-tls/tls.key
  {{- end }}
  httpTimeout: {{ $values.scheduler.extender.httpTimeout }}s
  managedResources:
    {{- range include "kerf.vendors" .root | fromJson }}
    - {name: {{ .resourceName }}, ignoredByScheduler: {{ and (.ownPlugin | default false) (not .counted) }}}
    {{- end }}
    {{- range include "kerf.ignored" .root | fromJsonArray }}
    - {name: {{ . }}, ignoredByScheduler: true}
    {{- end }}
{{- end }}
