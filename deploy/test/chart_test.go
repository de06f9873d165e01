// Package deploy_test checks the Helm chart in deploy/helm and the manifests in deploy/kubernetes.
//
// It is a module of its own, so that the modules of Kubernetes are no dependencies of presence.
package deploy_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the manifests in deploy/kubernetes")

const (
	chartDir = "../helm"
	cluster  = chartDir + "/ci/cluster-values.yaml"
)

// values reads YAML with values, from text or, if text names a file, from that file.
func values(t *testing.T, text string) map[string]any {
	t.Helper()
	if strings.HasSuffix(text, ".yaml") {
		content, err := os.ReadFile(text)
		if err != nil {
			t.Fatal(err)
		}
		text = string(content)
	}
	v := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// render returns the manifests of the chart with the values, keyed by kind and name, as helm
// template prints them for a release named presence.
func render(v map[string]any) (map[string]string, error) {
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		return nil, err
	}
	release := chartutil.ReleaseOptions{Name: "presence", Namespace: "default", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, v, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return nil, err
	}
	manifests := map[string]string{}
	for name, text := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			continue
		}
		for document := range strings.SplitSeq(text, "\n---\n") {
			if strings.TrimSpace(document) == "" {
				continue
			}
			var head struct {
				Kind     string
				Metadata struct{ Name string }
			}
			if err := yaml.Unmarshal([]byte(document), &head); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			key := head.Kind + " " + head.Metadata.Name
			if head.Kind == "" || manifests[key] != "" {
				return nil, fmt.Errorf("%s: no kind, or two manifests for %q", name, key)
			}
			manifests[key] = strings.TrimSpace(document) + "\n"
		}
	}
	return manifests, nil
}

// objects are manifests that were decoded into the types of Kubernetes.
type objects struct {
	deployment  *appsv1.Deployment
	services    []*corev1.Service
	budget      *policyv1.PodDisruptionBudget
	scaler      *autoscalingv2.HorizontalPodAutoscaler
	policy      *networkingv1.NetworkPolicy
	route       *gatewayv1.HTTPRoute
	monitor     *monitoringv1.ServiceMonitor
	environment map[string]string // of the container, with values from elsewhere as their name
}

// decode decodes manifests. An unknown or repeated field is an error.
func decode(t *testing.T, manifests map[string]string) objects {
	t.Helper()
	var o objects
	for key, text := range manifests {
		kind, _, _ := strings.Cut(key, " ")
		var into any
		switch kind {
		case "Deployment":
			o.deployment = &appsv1.Deployment{}
			into = o.deployment
		case "Service":
			o.services = append(o.services, &corev1.Service{})
			into = o.services[len(o.services)-1]
		case "PodDisruptionBudget":
			o.budget = &policyv1.PodDisruptionBudget{}
			into = o.budget
		case "HorizontalPodAutoscaler":
			o.scaler = &autoscalingv2.HorizontalPodAutoscaler{}
			into = o.scaler
		case "NetworkPolicy":
			o.policy = &networkingv1.NetworkPolicy{}
			into = o.policy
		case "HTTPRoute":
			o.route = &gatewayv1.HTTPRoute{}
			into = o.route
		case "ServiceMonitor":
			o.monitor = &monitoringv1.ServiceMonitor{}
			into = o.monitor
		default:
			t.Fatalf("unexpected kind %s", kind)
		}
		if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
			t.Errorf("%s: %v\n%s", key, err, text)
		}
	}
	slices.SortFunc(o.services, func(a, b *corev1.Service) int { return strings.Compare(a.Name, b.Name) })
	o.environment = map[string]string{}
	if o.deployment != nil {
		for _, variable := range o.deployment.Spec.Template.Spec.Containers[0].Env {
			value := variable.Value
			if from := variable.ValueFrom; from != nil && from.SecretKeyRef != nil {
				value = "secret " + from.SecretKeyRef.Name + " " + from.SecretKeyRef.Key
			} else if from != nil {
				value = "field " + from.FieldRef.FieldPath
			}
			if _, twice := o.environment[variable.Name]; twice {
				t.Errorf("variable %s is set twice", variable.Name)
			}
			o.environment[variable.Name] = value
		}
	}
	return o
}

// all sets each value that the chart has, as far as they do not exclude each other.
const all = `
replicas: 2
image: { repository: registry.example.com/presence, tag: v1, pullPolicy: Always }
imagePullSecrets: [{ name: registry }]
jwt: { existingSecret: keys, secretKeys: [new, old], publicKeys: [a.pem], jwksURL: "https://id.example.com/jwks", issuer: i, audience: a }
nats: { urlsSecret: { name: nats, key: addresses }, credentialsSecret: { name: creds }, replicas: 1 }
maxConnections: 20000
resources: { requests: { cpu: 1, memory: 1Gi }, limits: { memory: 2Gi } }
goMemLimit: 1800MiB
env: { PRESENCE_COUNT: users, GOGC: "100" }
shutdownGraceSeconds: 20
preStopSleepSeconds: 10
service: { type: LoadBalancer, port: 8080 }
metrics: { port: 9999, serviceMonitor: { enabled: true, interval: 30s, labels: { release: prometheus } } }
gateway: { enabled: true, parentRefs: [{ name: g, namespace: gateways }], hostnames: [a.example.com, b.example.com] }
autoscaling: { enabled: true, minReplicas: 2, maxReplicas: 5, targetConnections: 15000 }
networkPolicy: { from: [{ namespaceSelector: {} }] }
seccompProfile: { type: Localhost, localhostProfile: presence.json }
podAnnotations: { a: b }
nodeSelector: { disk: fast }
tolerations: [{ key: k, operator: Exists }]
topologySpreadConstraints: [{ maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {} }]
extraVolumes: [{ name: ca, configMap: { name: ca } }]
extraVolumeMounts: [{ name: ca, mountPath: /ca }]
`

// sets are values for which the chart is checked, keyed by name.
var sets = map[string]string{
	"default":    "",
	"cluster":    cluster,
	"everything": all,
	"JWK Set":    `{ jwt: { secretKeys: [], jwksURL: "https://id.example.com/jwks" }, networkPolicy: { enabled: false } }`,
	"no pause":   `{ replicas: 2, nats: { urls: ["nats://a:4222", "tls://b:4222"] }, preStopSleepSeconds: 0, networkPolicy: { metricsFrom: [] } }`,
}

// Helm finds nothing to mend in the chart.
func TestLint(t *testing.T) {
	for name, set := range sets {
		for _, m := range lint.All(chartDir, values(t, set), "default", true).Messages {
			// A chart needs no icon.
			if m.Severity > support.InfoSev || !strings.Contains(m.Error(), "icon is recommended") {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

// Kubernetes knows each field of the manifests. The objects refer to each other correctly, and the
// times of a shutdown fit together.
func TestRender(t *testing.T) {
	for name, set := range sets {
		t.Run(name, func(t *testing.T) {
			manifests, err := render(values(t, set))
			if err != nil {
				t.Fatal(err)
			}
			o := decode(t, manifests)
			pod := o.deployment.Spec.Template
			container := pod.Spec.Containers[0]

			ports := map[string]int32{}
			for _, p := range container.Ports {
				ports[p.Name] = p.ContainerPort
			}
			if o.environment["PRESENCE_LISTEN"] != fmt.Sprintf(":%d", ports["http"]) ||
				o.environment["PRESENCE_METRICS_LISTEN"] != fmt.Sprintf(":%d", ports["metrics"]) {
				t.Errorf("got ports %v with %v", ports, o.environment)
			}
			selects := func(what string, selector map[string]string) {
				if len(selector) == 0 {
					t.Errorf("%s selects everything", what)
				}
				for k, v := range selector {
					if pod.Labels[k] != v {
						t.Errorf("%s selects %s=%s, but the pod has %q", what, k, v, pod.Labels[k])
					}
				}
			}
			selects("Deployment", o.deployment.Spec.Selector.MatchLabels)
			for _, s := range o.services {
				selects("Service", s.Spec.Selector)
				if target := s.Spec.Ports[0].TargetPort.String(); ports[target] == 0 {
					t.Errorf("Service %s: no port %s in the container", s.Name, target)
				}
			}
			if o.policy != nil {
				selects("NetworkPolicy", o.policy.Spec.PodSelector.MatchLabels)
				for _, rule := range o.policy.Spec.Ingress {
					if port := rule.Ports[0].Port.String(); ports[port] == 0 || port == "metrics" && len(rule.From) == 0 {
						t.Errorf("NetworkPolicy: no port %s in the container, or open to all", port)
					}
				}
			}
			if o.budget != nil {
				selects("PodDisruptionBudget", o.budget.Spec.Selector.MatchLabels)
			}
			if o.scaler != nil {
				if ref := o.scaler.Spec.ScaleTargetRef; ref.Name != o.deployment.Name || ref.Kind != "Deployment" || o.deployment.Spec.Replicas != nil {
					t.Errorf("autoscaler: got target %v, and %v replicas", ref, o.deployment.Spec.Replicas)
				}
			}
			if o.monitor != nil {
				for k, v := range o.monitor.Spec.Selector.MatchLabels {
					if o.services[1].Labels[k] != v {
						t.Errorf("ServiceMonitor selects %s=%s, but the Service has %q", k, v, o.services[1].Labels[k])
					}
				}
				if port := o.monitor.Spec.Endpoints[0].Port; port != o.services[1].Spec.Ports[0].Name || o.services[1].Labels[o.monitor.Spec.JobLabel] != "presence" {
					t.Errorf("ServiceMonitor: got port %s and job %s", port, o.services[1].Labels[o.monitor.Spec.JobLabel])
				}
			}
			if o.route != nil {
				rule := o.route.Spec.Rules[0]
				if *rule.Timeouts.Request != "0s" || *rule.Timeouts.BackendRequest != "0s" {
					t.Errorf("HTTPRoute: got timeouts %v", rule.Timeouts)
				}
				if ref := rule.BackendRefs[0]; string(ref.Name) != o.services[0].Name || *ref.Port != gatewayv1.PortNumber(o.services[0].Spec.Ports[0].Port) {
					t.Errorf("HTTPRoute: got backend %v", ref)
				}
			}

			for probe, path := range map[*corev1.Probe]string{container.StartupProbe: "/healthz", container.LivenessProbe: "/healthz", container.ReadinessProbe: "/readyz"} {
				if probe.HTTPGet.Path != path || probe.HTTPGet.Port.String() != "http" {
					t.Errorf("got probe %v, want %s", probe.HTTPGet, path)
				}
			}
			var pause int64
			if container.Lifecycle != nil {
				pause = container.Lifecycle.PreStop.Sleep.Seconds
			}
			var grace int64
			if _, err := fmt.Sscanf(o.environment["PRESENCE_SHUTDOWN_GRACE"], "%ds", &grace); err != nil || *pod.Spec.TerminationGracePeriodSeconds != pause+grace+5 {
				t.Errorf("got termination grace %d, want %d + %d + 5", *pod.Spec.TerminationGracePeriodSeconds, pause, grace)
			}
			clustered := o.environment["PRESENCE_NATS"] != ""
			if rolling := o.deployment.Spec.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType; rolling != clustered ||
				clustered != (o.budget != nil) || clustered == o.services[0].Spec.PublishNotReadyAddresses {
				t.Errorf("with NATS %v: got strategy %s, budget %v, addresses that are not ready %v", clustered,
					o.deployment.Spec.Strategy.Type, o.budget, o.services[0].Spec.PublishNotReadyAddresses)
			}
			mounted := map[string]bool{}
			for _, v := range pod.Spec.Volumes {
				mounted[v.Name] = true
			}
			for _, m := range container.VolumeMounts {
				if !mounted[m.Name] {
					t.Errorf("no volume %s", m.Name)
				}
				delete(mounted, m.Name)
			}
			if len(mounted) > 0 {
				t.Errorf("volumes that are not mounted: %v", mounted)
			}
			security := container.SecurityContext
			if !*pod.Spec.SecurityContext.RunAsNonRoot || !*security.ReadOnlyRootFilesystem || *security.AllowPrivilegeEscalation ||
				!slices.Equal(security.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("got security contexts %v and %v", pod.Spec.SecurityContext, security)
			}
		})
	}
}

// Each value has its effect.
func TestValues(t *testing.T) {
	manifests, err := render(values(t, all))
	if err != nil {
		t.Fatal(err)
	}
	o := decode(t, manifests)
	if got, want := o.environment, map[string]string{
		"PRESENCE_LISTEN":           ":8080",
		"PRESENCE_METRICS_LISTEN":   ":9999",
		"PRESENCE_JWT_SECRET_FILE":  "/etc/presence/keys/new,/etc/presence/keys/old",
		"PRESENCE_JWT_PUBLIC_KEY":   "/etc/presence/keys/a.pem",
		"PRESENCE_JWKS_URL":         "https://id.example.com/jwks",
		"PRESENCE_JWT_ISSUER":       "i",
		"PRESENCE_JWT_AUDIENCE":     "a",
		"PRESENCE_NATS":             "secret nats addresses",
		"PRESENCE_NATS_REPLICAS":    "1",
		"PRESENCE_NATS_CREDENTIALS": "/etc/presence/nats/nats.creds",
		"PRESENCE_NODE":             "field metadata.name",
		"PRESENCE_MAX_CONNECTIONS":  "20000",
		"PRESENCE_SHUTDOWN_GRACE":   "20s",
		"PRESENCE_COUNT":            "users",
		"GOMEMLIMIT":                "1800MiB",
		"GOGC":                      "100",
	}; !maps.Equal(got, want) {
		t.Errorf("got environment\n%v, want\n%v", got, want)
	}
	spec := o.deployment.Spec.Template.Spec
	secrets := map[string]string{}
	for _, v := range spec.Volumes {
		if v.Secret != nil {
			secrets[v.Name] = v.Secret.SecretName
			if mode := *v.Secret.DefaultMode; mode != 0o440 {
				t.Errorf("volume %s: got mode %#o, want 0440", v.Name, mode)
			}
		}
	}
	if want := map[string]string{"keys": "keys", "nats": "creds"}; !maps.Equal(secrets, want) {
		t.Errorf("got secrets %v, want %v", secrets, want)
	}
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"image", spec.Containers[0].Image, "registry.example.com/presence:v1"},
		{"image pull policy", spec.Containers[0].ImagePullPolicy, corev1.PullAlways},
		{"image pull secret", spec.ImagePullSecrets[0].Name, "registry"},
		{"memory", spec.Containers[0].Resources.Limits.Memory().String(), "2Gi"},
		{"seccomp", *spec.SecurityContext.SeccompProfile.LocalhostProfile, "presence.json"},
		{"node selector", spec.NodeSelector["disk"], "fast"},
		{"toleration", spec.Tolerations[0].Key, "k"},
		{"spread", spec.TopologySpreadConstraints[0].TopologyKey, "zone"},
		{"annotation", o.deployment.Spec.Template.Annotations["a"], "b"},
		{"Service type", o.services[0].Spec.Type, corev1.ServiceTypeLoadBalancer},
		{"Service port", o.services[0].Spec.Ports[0].Port, int32(8080)},
		{"interval", o.monitor.Spec.Endpoints[0].Interval, monitoringv1.Duration("30s")},
		{"label", o.monitor.Labels["release"], "prometheus"},
		{"host names", len(o.route.Spec.Hostnames), 2},
		{"gateway", *o.route.Spec.ParentRefs[0].Namespace, gatewayv1.Namespace("gateways")},
		{"metric", o.scaler.Spec.Metrics[0].Pods.Metric.Name, "presence_connections"},
		{"connections", o.scaler.Spec.Metrics[0].Pods.Target.AverageValue.Value(), int64(15000)},
		{"fewest pods", *o.scaler.Spec.MinReplicas, int32(2)},
		{"most pods", o.scaler.Spec.MaxReplicas, int32(5)},
		{"peers", len(o.policy.Spec.Ingress[0].From), 1},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, c.got, c.want)
		}
	}
}

// Bad values are errors that name the value.
func TestBadValues(t *testing.T) {
	const nats = `nats: { urls: ["nats://nats:4222"] }`
	for _, c := range []struct{ values, want string }{
		{`{ replica: 3 }`, "replica"},
		{`{ replicas: "3" }`, "replicas"},
		{`{ replicas: -1 }`, "replicas"},
		{`{ replicas: 3 }`, "replicas is 3, but without nats.urls"},
		{`{ autoscaling: { enabled: true } }`, "autoscaling.enabled needs nats.urls"},
		{`{ autoscaling: { enabled: true, minReplicas: 5, maxReplicas: 4 }, ` + nats + ` }`, "maxReplicas is 4"},
		{`{ autoscaling: { enabled: true, targetConnections: 10000 }, ` + nats + ` }`, "targetConnections is 10000"},
		{`{ autoscaling: { target: 1 } }`, "target"},
		{`{ image: { pullPolicy: Sometimes } }`, "pullPolicy"},
		{`{ image: { repository: "" } }`, "repository"},
		{`{ jwt: { secret: 0123456789 } }`, "secret"},
		{`{ jwt: { secretKeys: ["../x"] } }`, "secretKeys"},
		{`{ jwt: { existingSecret: "" } }`, "existingSecret"},
		{`{ jwt: { secretKeys: [] } }`, "no key for tokens"},
		{`{ jwt: { jwksURL: "file:///keys" } }`, "jwksURL"},
		{`{ nats: { urls: ["nats://user:password@nats:4222"] } }`, "urls"},
		{`{ nats: { urls: ["http://nats"] } }`, "urls"},
		{`{ nats: { urls: ["nats://nats:4222"], urlsSecret: { name: nats } } }`, "both set"},
		{`{ nats: { credentialsSecret: { name: creds } } }`, "nats.credentialsSecret.name needs nats.urls"},
		{`{ nats: { replicas: 6 } }`, "replicas"},
		{`{ seccompProfile: { type: Unconfined } }`, "seccompProfile"},
		{`{ seccompProfile: { type: Localhost } }`, "localhostProfile"},
		{`{ seccompProfile: { localhostProfile: presence.json } }`, "localhostProfile"},
		{`{ maxConnections: 0 }`, "maxConnections"},
		{`{ goMemLimit: 460Mi }`, "goMemLimit"},
		{`{ env: { PRESENCE_COUNT: 1 } }`, "PRESENCE_COUNT"},
		{`{ env: { PRESENCE_LISTEN: ":80" } }`, "PRESENCE_LISTEN"},
		{`{ env: { LD_PRELOAD: x } }`, "LD_PRELOAD"},
		{`{ shutdownGraceSeconds: 0 }`, "shutdownGraceSeconds"},
		{`{ preStopSleepSeconds: -1 }`, "preStopSleepSeconds"},
		{`{ service: { port: 70000 } }`, "port"},
		{`{ metrics: { port: 8080 } }`, "port"},
		{`{ metrics: { serviceMonitor: { interval: often } } }`, "interval"},
		{`{ gateway: { enabled: true } }`, "parentRefs"},
		{`{ networkPolicy: { ingress: [] } }`, "ingress"},
		{`{ extraVolumeMounts: [{ name: ca }] }`, "mountPath"},
	} {
		if _, err := render(values(t, c.values)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", c.values, err, c.want)
		}
	}
}

// The schema has the values of values.yaml, and no others.
func TestSchema(t *testing.T) {
	text, err := os.ReadFile(chartDir + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	schema := map[string]any{}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	delete(schema["properties"].(map[string]any), "global") // Helm passes it to the charts of a chart
	var compare func(path string, schema, defaults map[string]any)
	compare = func(path string, schema, defaults map[string]any) {
		properties, _ := schema["properties"].(map[string]any)
		if properties == nil {
			return
		}
		if schema["additionalProperties"] != false {
			t.Errorf("schema of %q allows unknown values", path)
		}
		got, want := slices.Sorted(maps.Keys(properties)), slices.Sorted(maps.Keys(defaults))
		if path != ".resources" && !slices.Equal(got, want) {
			t.Errorf("schema of %q has %q, values.yaml has %q", path, got, want)
		}
		for name, property := range properties {
			inner, _ := defaults[name].(map[string]any)
			compare(path+"."+name, property.(map[string]any), inner)
		}
	}
	compare("", schema, values(t, chartDir+"/values.yaml"))
}

// The manifests in deploy/kubernetes are those of the chart.
func TestManifests(t *testing.T) {
	single, err := render(values(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	set := values(t, cluster)
	several, err := render(set)
	if err != nil {
		t.Fatal(err)
	}
	set["autoscaling"] = map[string]any{"enabled": true}
	scaled, err := render(set)
	if err != nil {
		t.Fatal(err)
	}
	const secrets = "#   (umask 077; openssl rand -hex 32 > secret-1) && cp secret-1 secret-2\n" +
		"#   kubectl create secret generic presence --from-file=secret-1 --from-file=secret-2\n"
	core := []string{"Deployment presence", "Service presence", "Service presence-metrics", "PodDisruptionBudget presence", "NetworkPolicy presence"}
	for _, file := range []struct {
		name, comment string
		manifests     map[string]string
		keys          []string
	}{
		{"single.yaml", "# One pod without NATS. It needs a Secret:\n#\n" +
			secrets, single, slices.DeleteFunc(slices.Clone(core), func(key string) bool { return single[key] == "" })},
		{"cluster.yaml", "# Three pods with NATS at nats://nats:4222. They need two Secrets:\n#\n" +
			secrets +
			"#   kubectl create secret generic presence-nats --from-file=nats.creds\n", several, core},
		{"gateway.yaml", "# The route of the Gateway API. Set the names of the gateway and of the host.\n", several, []string{"HTTPRoute presence"}},
		{"monitoring.yaml", "# For the Prometheus Operator.\n", several, []string{"ServiceMonitor presence"}},
		{"autoscaling.yaml", "# Scales the pods of cluster.yaml. Remove replicas there. It needs an adapter that serves the metric\n" +
			"# presence_connections of pods, such as prometheus-adapter.\n", scaled, []string{"HorizontalPodAutoscaler presence"}},
	} {
		var want strings.Builder
		want.WriteString("# Generated from deploy/helm: make manifests\n#\n" + file.comment)
		manifests := map[string]string{}
		for _, key := range file.keys {
			if file.manifests[key] == "" {
				t.Errorf("%s: no %s", file.name, key)
			}
			manifests[key] = file.manifests[key]
			want.WriteString("---\n" + file.manifests[key])
		}
		decode(t, manifests)
		path := "../kubernetes/" + file.name
		if *update {
			if err := os.WriteFile(path, []byte(want.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want.String() {
			t.Errorf("%s is not up to date (%v): run make manifests", path, err)
		}
	}
}
