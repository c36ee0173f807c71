package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSimulate starts a tenant from the command line, calls it as the printed text
// says, and ends it as Ctrl-C does.
func TestSimulate(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	folder := filepath.Join(t.TempDir(), "lab")
	out, in := io.Pipe()
	ended := make(chan int, 1)
	var stderr bytes.Buffer
	go func() {
		code := runContext(ctx, []string{
			"simulate", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--directory", folder,
			"--scenario", "type-fails:path=/v1.0/groups,status=500", "--scenario", "throttled", "--count", "/v1.0/groups=9",
		}, streams{in: strings.NewReader(""), out: in, err: &stderr})
		ended <- code
		in.Close()
	}()
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "/reset") { // the last line
			break
		}
	}
	for _, part := range []string{"simulated-client-secret", "backup@contoso.example", "ca_file: " + filepath.Join(folder, "ca.pem"), "curl -X PUT"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("the text lacks %q:\n%s", part, text.String())
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "ca.pem")); err != nil {
		t.Error(err)
	}
	admin := regexp.MustCompile(`Admin port +(http://\S+)`).FindStringSubmatch(text.String())
	if admin == nil {
		t.Fatalf("no admin port:\n%s%s", text.String(), stderr.String())
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, admin[1]+"/scenario", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	want := `[{"name":"type-fails","path":"/v1.0/groups","status":500},{"name":"throttled"}]`
	if err != nil || strings.TrimSpace(string(body)) != want {
		t.Errorf("GET /scenario: %s %v", body, err)
	}
	stop()
	if code := <-ended; code != exitOK || stderr.Len() > 0 {
		t.Errorf("ended with %d, %s", code, stderr.String())
	}
}

func TestSimulateIsAskedWrongly(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for says, args := range map[string][]string{
		"there is no such scenario":                  {"--scenario", "nope"},
		`there is no option "colour"`:                {"--scenario", "type-fails:colour=red"},
		"listens on loopback only":                   {"--listen", "0.0.0.0:0"},
		"has no certificate in PEM form":             {"--certificate", file},
		`"/v1.0/nothing" is no collection`:           {"--count", "/v1.0/nothing=3"},
		"the simulator's sizes must not be negative": {"--items=-1"},
	} {
		code, out, stderr := command(t, append([]string{"simulate", "--directory", t.TempDir()}, args...)...)
		if code != exitUsage || out != "" || !strings.Contains(stderr, says) {
			t.Errorf("%v: code %d, %q; want %q", args, code, stderr, says)
		}
	}
}

// An address that is taken is said with the flags that choose another one.
func TestAddressesAreTaken(t *testing.T) {
	t.Parallel()
	var listen net.ListenConfig
	taken, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address, folder := taken.Addr().String(), t.TempDir()
	file := filepath.Join(folder, "understudy.yaml")
	content := "grpc: {listen: \"" + address + "\"}\ndata_dir: " + folder + "/data\ntenants: [" + ordinaryTenant + "]\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	free := []string{"--listen", "127.0.0.1:0", "--tenant", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--folder", folder}
	for _, c := range []struct {
		args []string
		says string
	}{
		{append([]string{"playground"}, append(free, "--listen", address)...), "--listen, --tenant and --admin"},
		{append([]string{"playground"}, append(free, "--admin", address)...), "--listen, --tenant and --admin"},
		{[]string{"simulate", "--directory", folder, "--listen", address, "--admin-listen", "127.0.0.1:0"}, "--listen and --admin-listen"},
		{[]string{"serve", "--config", file}, "listening on grpc.listen: listen tcp " + address},
	} {
		code, _, stderr := command(t, c.args...)
		if code != exitFailed || !strings.Contains(stderr, "Another process listens there") || !strings.Contains(stderr, c.says) {
			t.Errorf("%v: code %d, %s", c.args, code, stderr)
		}
	}
}

func TestSimulateListsScenarios(t *testing.T) {
	t.Parallel()
	code, out, stderr := command(t, "simulate", "--scenarios")
	for _, name := range []string{
		"conditional-access-block", "AADSTS53003", "page-missing", "retry_after",
		"wrong-password\n    The password of the user is wrong (AADSTS50126).\n    of: tenants whose user is a service account\n",
		"    of: tenants whose user is delegated\n", "    of: every tenant\n",
	} {
		if code != exitOK || stderr != "" || !strings.Contains(out, name) {
			t.Errorf("code %d, no %q in %s%s", code, name, out, stderr)
		}
	}
}
