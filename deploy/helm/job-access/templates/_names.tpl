{{- define "job-access.selector" -}}
app.kubernetes.io/name: job-access
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "job-access.labels" -}}
{{ include "job-access.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "job-access.serviceAccount" -}}
{{ default .Release.Name .Values.serviceAccount.name }}
{{- end }}

{{- define "job-access.configMap" -}}
{{ .Release.Name }}-config
{{- end }}

{{- /* Checks the required values, and reports all faults at once. */}}
{{- define "job-access.check" -}}
{{- $faults := list }}
{{- if and (eq .Values.provider "aws") (not .Values.boundaryArn) }}{{ $faults = append $faults "boundaryArn: must be given for aws" }}{{ end }}
{{- if not .Values.identity.secret }}{{ $faults = append $faults "identity.secret: must be given" }}{{ end }}
{{- if and (not .Values.guardrails.cedar) (not .Values.guardrails.configMap) }}{{ $faults = append $faults "guardrails.cedar or guardrails.configMap: must be given" }}{{ end }}
{{- if and .Values.guardrails.cedar .Values.guardrails.configMap }}{{ $faults = append $faults "guardrails.cedar, guardrails.configMap: give one of them" }}{{ end }}
{{- if and (gt (int .Values.replicas) 1) (not .Values.database.secret) }}{{ $faults = append $faults "database.secret: must be given for more than one replica" }}{{ end }}
{{- if $faults }}{{ fail (printf "\n  %s" (join "\n  " $faults)) }}{{ end }}
{{- end }}
