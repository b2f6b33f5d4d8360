{{- /* Names, labels, and what the chart knows of each role. */ -}}

{{- define "gantry.name" -}}
{{- if contains "gantry" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-gantry" (.Release.Name | trunc 33 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "gantry.selector" -}}
app.kubernetes.io/name: gantry
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gantry.labels" -}}
{{ include "gantry.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "gantry.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- /* The ports that a role listens on, and the metric by which it grows. */ -}}
{{- define "gantry.roles" -}}
ingress:
  ports: {dimse: 11112, metrics: 9101{{ with .Values.config.listen.tls_port }}, dimse-tls: {{ . }}{{ end }}}
  metric: gantry_ingress_associations_active
  query: sum(gantry_ingress_associations_active{namespace="NAMESPACE"})
worker:
  ports: {metrics: 9102}
  metric: gantry_worker_queue_length
  selector: {queue: index}
  query: max(gantry_worker_queue_length{namespace="NAMESPACE", queue="index"})
query:
  ports: {http: 8080, dimse: 11113, metrics: 9103{{ with .Values.config.listen.query_tls_port }}, dimse-tls: {{ . }}{{ end }}}
  metric: gantry_query_http_requests_active
  query: sum(gantry_query_http_requests_active{namespace="NAMESPACE"})
worklist:
  ports: {dimse: 11114, hl7: 2575, metrics: 9104{{ with .Values.config.listen.hl7_tls_port }}, hl7-tls: {{ . }}{{ end }}}
  metric: gantry_worklist_associations_active
  query: sum(gantry_worklist_associations_active{namespace="NAMESPACE"})
{{- end -}}

{{- define "gantry.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "gantry.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Gantry's environment: the file, and the secrets by name. */ -}}
{{- define "gantry.environment" -}}
- {name: GANTRY_CONFIG, value: /etc/gantry/gantry.yaml}
{{- $variables := dict "database" "DATABASE_PASSWORD" "broker" "BROKER_PASSWORD" "dimsePasscodes" "DIMSE_PASSCODES" "dimseJwtSecret" "DIMSE_JWT_SECRET" "dicomwebSecrets" "DICOMWEB_SECRETS" "deidentifyingKey" "DEIDENTIFYING_KEY" "webhookSecrets" "WEBHOOK_SECRETS" "tlsKeyPassword" "TLS_KEY_PASSWORD" }}
{{- range $secret, $variable := $variables }}
{{- with index $.Values.secrets $secret }}
{{- if .name }}
- name: GANTRY_{{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Of the query service alone: who may use DICOMweb. */ -}}
{{- define "gantry.webTokens" -}}
{{- with .Values.secrets.webTokens }}
{{- if .name }}
- name: GANTRY_HTTP_TOKENS
  valueFrom: {secretKeyRef: {name: {{ .name | quote }}, key: {{ .key | quote }}}}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The folder of the objects, which is a volume here; empty where they are in a bucket. */ -}}
{{- define "gantry.folder" -}}
{{- $objects := .Values.config.objects -}}
{{- if kindIs "map" $objects -}}
{{- $objects.folder | default "" -}}
{{- else if not (contains "://" $objects) -}}
{{- $objects -}}
{{- end -}}
{{- end -}}

{{- /* "yes" where those who are no partners may store: so may whoever calls over HTTP. */ -}}
{{- define "gantry.strangersStore" -}}
{{- $unknown := .Values.config.unknown_partners | default "accept" -}}
{{- $store := $unknown -}}
{{- if kindIs "map" $unknown }}{{ $store = $unknown.store | default "accept" }}{{ end -}}
{{- if eq $store "accept" }}yes{{ end -}}
{{- end -}}

{{- /* Not empty where some partner, or whoever sends HL7, may call from given hosts alone. */ -}}
{{- define "gantry.filtersHosts" -}}
{{- range .Values.config.partners }}{{- if .hosts }}yes{{- end }}{{- end -}}
{{- with .Values.config.hl7 }}{{- if .hosts }}yes{{- end }}{{- end -}}
{{- end -}}
