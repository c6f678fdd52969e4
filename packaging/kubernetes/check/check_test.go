// Package check checks the manifest for Kubernetes. It is a module of its own, so that the types of
// Kubernetes are no dependency of culprit.
package check

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// manifest decodes the documents of the manifest. A field that Kubernetes does not have is an error.
func manifest(t *testing.T) (namespace core.Namespace, settings core.ConfigMap, set apps.DaemonSet) {
	t.Helper()
	text, err := os.ReadFile("../daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for i, doc := range bytes.Split(text, []byte("\n---\n")) {
		into := []any{&namespace, &settings, &set}[i]
		if err := yaml.UnmarshalStrict(doc, into); err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
	}
	if namespace.Kind != "Namespace" || settings.Kind != "ConfigMap" || set.Kind != "DaemonSet" || set.APIVersion != apps.SchemeGroupVersion.String() {
		t.Fatalf("the documents are %v, %v and %v", namespace.TypeMeta, settings.TypeMeta, set.TypeMeta)
	}
	return namespace, settings, set
}

// TestManifest: what belongs together in the manifest agrees, and it asks for what culprit needs.
func TestManifest(t *testing.T) {
	namespace, settings, set := manifest(t)
	pod := set.Spec.Template
	if settings.Namespace != namespace.Name || set.Namespace != namespace.Name {
		t.Errorf("the namespaces are %q, %q and %q", namespace.Name, settings.Namespace, set.Namespace)
	}
	for key, value := range set.Spec.Selector.MatchLabels {
		if pod.Labels[key] != value {
			t.Errorf("the selector wants %s=%s, the pod has %q", key, value, pod.Labels[key])
		}
	}
	if !pod.Spec.HostPID || !pod.Spec.HostNetwork {
		t.Error("without hostPID and hostNetwork it sees nothing of the node")
	}
	c := pod.Spec.Containers[0]
	var volumes []string
	for _, v := range pod.Spec.Volumes {
		volumes = append(volumes, v.Name)
		if v.ConfigMap != nil && v.ConfigMap.Name != settings.Name {
			t.Errorf("volume %s is of %q", v.Name, v.ConfigMap.Name)
		}
	}
	var mounts []string
	for _, m := range c.VolumeMounts {
		mounts = append(mounts, m.Name)
	}
	if slices.Sort(volumes); !slices.Equal(volumes, slices.Sorted(slices.Values(mounts))) {
		t.Errorf("volumes %v, mounts %v", volumes, mounts)
	}
}

// TestCapabilities: the pod has those of the systemd unit.
func TestCapabilities(t *testing.T) {
	_, _, set := manifest(t)
	unit, err := os.ReadFile("../../culprit.service")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`).FindSubmatch(unit)
	var want, got []string
	for name := range strings.FieldsSeq(string(line[1])) {
		want = append(want, strings.TrimPrefix(name, "CAP_"))
	}
	for _, name := range set.Spec.Template.Spec.Containers[0].SecurityContext.Capabilities.Add {
		got = append(got, string(name))
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the pod has %v, the unit %v", got, want)
	}
}
