{{- define "popgate.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "popgate.selector" -}}
app.kubernetes.io/name: popgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "popgate.labels" -}}
{{ include "popgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "popgate.secret" -}}
{{- .Values.secrets.existing | default (include "popgate.name" .) -}}
{{- end -}}
