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

{{- /* Namespaces by name, and peers in Kubernetes' own form. */}}
{{- define "job-access.peers" -}}
{{- range .namespaces }}
- namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: {{ . }} } }
{{- end }}
{{- with .from }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The port of a URL. */}}
{{- define "job-access.port" -}}
{{- $url := urlParse . -}}
{{ regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "80" "443" (eq $url.scheme "http")) }}
{{- end }}

{{- /* The rule that lets the service reach `endpoint`, or those of the accounts; without one, IAM and STS of AWS. */}}
{{- define "job-access.provider" -}}
{{- $ports := list }}
{{- range (default (list (dict "endpoint" .Values.endpoint)) .Values.accounts) }}
{{- $ports = append $ports (include "job-access.port" (default "https://aws" .endpoint)) }}
{{- end }}
{{- $url := urlParse (default "https://aws" .Values.endpoint) -}}
ports:
{{- range uniq $ports }}
  - port: {{ . }}
    protocol: TCP
{{- end }}
{{- if regexMatch "^[0-9.]+(:[0-9]+)?$" $url.host }}
to:
  - ipBlock: { cidr: {{ regexFind "^[0-9.]+" $url.host }}/32 }
{{- end }}
{{- end }}

{{- define "job-access.image" -}}
{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end }}
{{- end }}

{{- /* Checks the required values, and reports all faults at once. */}}
{{- define "job-access.check" -}}
{{- $faults := list }}
{{- if and (eq .Values.provider "aws") (not .Values.boundaryArn) (not .Values.accounts) }}{{ $faults = append $faults "boundaryArn: must be given for aws" }}{{ end }}
{{- if not .Values.identity.secret }}{{ $faults = append $faults "identity.secret: must be given" }}{{ end }}
{{- if and (not .Values.guardrails.cedar) (not .Values.guardrails.configMap) }}{{ $faults = append $faults "guardrails.cedar or guardrails.configMap: must be given" }}{{ end }}
{{- if and .Values.guardrails.cedar .Values.guardrails.configMap }}{{ $faults = append $faults "guardrails.cedar, guardrails.configMap: give one of them" }}{{ end }}
{{- if and (gt (int .Values.replicas) 1) (not .Values.database.secret) }}{{ $faults = append $faults "database.secret: must be given for more than one replica" }}{{ end }}
{{- if and (ne .Values.provider "aws") (not .Values.accounts) (not .Values.endpoint) (not .Values.env.AWS_ENDPOINT_URL) (not .Values.env.AWS_ENDPOINT_URL_IAM) }}{{ $faults = append $faults (printf "endpoint: must be given for %s" .Values.provider) }}{{ end }}
{{- if and (eq .Values.provider "custom") (not .Values.dialect) }}{{ $faults = append $faults "dialect: must be given for custom" }}{{ end }}
{{- if and .Values.dialect (ne .Values.provider "custom") }}{{ $faults = append $faults "dialect: is for custom alone" }}{{ end }}
{{- if and .Values.accounts (or .Values.endpoint .Values.boundaryArn .Values.profiles) }}{{ $faults = append $faults "accounts: endpoint, boundaryArn and profiles have no effect beside it; state them of each account" }}{{ end }}
{{- if and .Values.image.tag .Values.image.digest }}{{ $faults = append $faults "image.tag, image.digest: give one of them" }}{{ end }}
{{- if and .Values.database.ca.configMap .Values.database.ca.secret }}{{ $faults = append $faults "database.ca.configMap, database.ca.secret: give one of them" }}{{ end }}
{{- with .Values.networkPolicy }}{{ if and .enabled (not .namespaces) (not .from) }}{{ $faults = append $faults "networkPolicy.namespaces or networkPolicy.from: must be given, or nobody may call the service" }}{{ end }}{{ end }}
{{- with .Values.ingress }}{{ if and .enabled (or (not .host) (not .tlsSecret)) }}{{ $faults = append $faults "ingress.host, ingress.tlsSecret: must be given for an ingress" }}{{ end }}{{ end }}
{{- with .Values.metrics.prometheusRule }}{{ if and .enabled (not .runbooks) }}{{ $faults = append $faults "metrics.prometheusRule.runbooks: must be given for the alerts" }}{{ end }}{{ end }}
{{- if $faults }}{{ fail (printf "\n  %s" (join "\n  " $faults)) }}{{ end }}
{{- end }}
