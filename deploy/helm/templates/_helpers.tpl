{{- define "presence.name" -}}
{{- if contains "presence" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-presence" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "presence.selector" -}}
app.kubernetes.io/name: presence
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "presence.labels" -}}
{{ include "presence.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
{{- end }}

{{/* Not empty if the pods are nodes of one server. */}}
{{- define "presence.clustered" -}}
{{- if or .Values.nats.urls .Values.nats.urlsSecret.name }}yes{{ end }}
{{- end }}

{{/* Fails for settings that exclude each other. The schema checks each setting on its own. */}}
{{- define "presence.check" -}}
{{- $v := .Values }}
{{- if and $v.nats.urls $v.nats.urlsSecret.name }}
{{- fail "nats.urls and nats.urlsSecret.name are both set, use one of them" }}
{{- end }}
{{- if not (include "presence.clustered" .) }}
{{- if gt (int $v.replicas) 1 }}
{{- fail (printf "replicas is %d, but without nats.urls or nats.urlsSecret.name it must be 1" (int $v.replicas)) }}
{{- end }}
{{- if $v.autoscaling.enabled }}
{{- fail "autoscaling.enabled needs nats.urls or nats.urlsSecret.name" }}
{{- end }}
{{- if $v.nats.credentialsSecret.name }}
{{- fail "nats.credentialsSecret.name needs nats.urls" }}
{{- end }}
{{- end }}
{{- if not (or $v.jwt.secretKeys $v.jwt.publicKeys $v.jwt.jwksURL) }}
{{- fail "no key for tokens: set jwt.secretKeys, jwt.publicKeys or jwt.jwksURL" }}
{{- end }}
{{- if and $v.autoscaling.enabled (lt (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas)) }}
{{- fail (printf "autoscaling.maxReplicas is %d, less than autoscaling.minReplicas (%d)" (int $v.autoscaling.maxReplicas) (int $v.autoscaling.minReplicas)) }}
{{- end }}
{{- if and $v.autoscaling.enabled (ge (int $v.autoscaling.targetConnections) (int $v.maxConnections)) }}
{{- fail (printf "autoscaling.targetConnections is %d, not less than maxConnections (%d)" (int $v.autoscaling.targetConnections) (int $v.maxConnections)) }}
{{- end }}
{{- end }}
