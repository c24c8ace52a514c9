{{- define "sociable.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "sociable.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sociable.server" -}}
{{ include "sociable.selector" . }}
app.kubernetes.io/component: server
{{- end }}

{{- define "sociable.labels" -}}
{{ include "sociable.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "sociable.account" -}}
{{ .Values.serviceAccount.name | default (include "sociable.name" .) }}
{{- end }}

{{- /* What the admin port speaks: where there is a certificate, no password goes in the clear. */ -}}
{{- define "sociable.adminScheme" -}}
{{ if .Values.tlsSecret }}https{{ else }}http{{ end }}
{{- end }}

{{- /* The configuration file: what values say, and what the chart needs. */ -}}
{{- define "sociable.config" -}}
{{- $c := deepCopy .Values.config -}}
{{- $own := dict "listen" "0.0.0.0:5000" "admin" (dict "listen" "0.0.0.0:5001" "open_metrics" true) "storage" (dict "path" "/data") -}}
{{- if .Values.tlsSecret }}{{ $_ := set $own "tls" (dict "cert_file" "/etc/sociable/tls/tls.crt" "key_file" "/etc/sociable/tls/tls.key") }}{{ $_ := set $own.admin "tls" true }}{{ end -}}
{{- if .Values.htpasswdSecret }}{{ $_ := set $own "auth" (dict "htpasswd_file" "/etc/sociable/auth/htpasswd") }}{{ end -}}
{{- mergeOverwrite $c $own | toYaml -}}
{{- end }}
