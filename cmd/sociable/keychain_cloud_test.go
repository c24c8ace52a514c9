package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// credentialsFor are what a cloud's keychain gives for a host.
func credentialsFor(t *testing.T, chain, host string) authn.AuthConfig {
	t.Helper()
	reg, err := name.NewRegistry(host)
	if err != nil {
		t.Fatal(err)
	}
	auth, err := authn.Resolve(t.Context(), keychain(&UpstreamConfig{Keychain: chain}), reg)
	if err != nil {
		t.Fatalf("%s: %v", chain, err)
	}
	got, err := authn.Authorization(t.Context(), auth)
	if err != nil {
		t.Fatalf("%s: %v", chain, err)
	}
	return *got
}

// TestECRKeychain asks an ECR for a token with the keys of the environment.
func TestECRKeychain(t *testing.T) {
	const host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	ecr := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") != "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" || r.Header.Get("Authorization") == "" {
			t.Errorf("asked for %q, with %q", r.Header.Get("X-Amz-Target"), r.Header.Get("Authorization"))
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = fmt.Fprintf(w, `{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d,"proxyEndpoint":"https://%s"}]}`,
			base64.StdEncoding.EncodeToString([]byte("AWS:of the hour")), time.Now().Add(12*time.Hour).Unix(), host)
	}))
	defer ecr.Close()
	for k, v := range map[string]string{
		"AWS_ENDPOINT_URL": ecr.URL, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ECR_DISABLE_CACHE": "true",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "HOME": t.TempDir(),
	} {
		t.Setenv(k, v)
	}
	if got, want := credentialsFor(t, "ecr", host), (authn.AuthConfig{Username: "AWS", Password: "of the hour"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestGCRKeychain has a service account's key file, and the token service that it
// names.
func TestGCRKeychain(t *testing.T) {
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"access_token":"of the hour","token_type":"Bearer","expires_in":3600}`)
	}))
	defer tokens.Close()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "p", "private_key_id": "1", "client_email": "a@p.example", "token_uri": tokens.URL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, account, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	for _, host := range []string{"gcr.io", "europe-west3-docker.pkg.dev"} {
		if got, want := credentialsFor(t, "gcr", host), (authn.AuthConfig{Username: "_token", Password: "of the hour"}); got != want {
			t.Errorf("%s: got %+v, want %+v", host, got, want)
		}
	}
}
