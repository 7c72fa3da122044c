package attack_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writePages makes a folder to serve in dir, with what it must not serve in it
// and around it.
func writePages(dir string) (root string, err error) {
	root = filepath.Join(dir, "pages")
	for name, text := range map[string]string{
		"pages/page.txt": "page", "pages/sub/page.txt": "page", "pages/.env": "hidden", "pages/.git/config": "hidden", "pages/sub/.htpasswd": "hidden",
		"secret.txt": "hidden", "pages-old/page.txt": "hidden", "private/page.txt": "hidden",
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	for link, to := range map[string]string{"out.txt": "../secret.txt", "out": "../private", "far.txt": filepath.Join(dir, "secret.txt"), "in.txt": "sub/page.txt", "root": "/"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			return "", err
		}
	}
	return root, nil
}

// files are attacks on a folder: whatever is asked, nothing outside of it comes,
// nothing through links that lead out, and no dot file.
func files() (attacks []attack) {
	for _, target := range []string{
		"/../secret.txt", "/sub/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/%2e%2e%2fsecret.txt", "/..%5csecret.txt", "/..\\secret.txt", "/%252e%252e/secret.txt", "/..%252fsecret.txt", "/%c0%ae%c0%ae/secret.txt", "/..%c0%afsecret.txt",
		"/..;/secret.txt", "/sub/..;/..;/secret.txt", "/.../secret.txt", "/....//secret.txt", "//../secret.txt", "/./../secret.txt", "/sub/%2e%2e/%2e%2e/secret.txt", "/../pages-old/page.txt", "-old/page.txt", "/../private/page.txt",
		"/../../../../../../../../etc/passwd", "//etc/passwd", "/%2fetc/passwd", "/root/etc/passwd", "/file:///etc/passwd", "/secret.txt", "/page.txt/../../secret.txt", "/page.txt%00.html", "/..%00/secret.txt", "/..%0d/secret.txt",
		"/out.txt", "/out/page.txt", "/out", "/out/", "/far.txt", "/out/../secret.txt", "/sub/../out.txt", "/%6fut.txt",
		"/.env", "/%2eenv", "/./.env", "/sub/../.env", "/.git/config", "/.git/", "/.git", "/%2egit/config", "/.git/../.env", "/sub/.htpasswd", "/sub/%2ehtpasswd", "//.env", "/.env/", "/.env%20", "/.env;x", "/.env?x", "/.ENV",
	} {
		attacks = append(attacks, hides(target))
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "PROPFIND", "MKCOL", "MOVE"} {
		attacks = append(attacks, denied(method, method+" /files/page.txt HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 0\r\n\r\n", 405))
	}
	for _, target := range []string{"/page.txt", "/sub/page.txt", "/%70age.txt", "/in.txt", "/sub/../page.txt", "/./page.txt", "/page.txt?../secret.txt"} {
		attacks = append(attacks, serves(target, "page", ""))
	}
	return append(attacks,
		serves("/page.txt", "ag", "bytes=1-2"), serves("/page.txt", "page", "bytes=2-1"), serves("/page.txt", "page", "pages=0-1"), serves("/page.txt", "page", "bytes=0-99999999999999999999"), serves("/page.txt", "page", "bytes=--1"),
	)
}

func hides(target string) attack {
	raw := "GET /files" + target + " HTTP/1.1\r\nHost: edge.test\r\n\r\n"
	return attack{name: target, raw: raw, run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(raw)
		r, err := c.response(false)
		if err != nil {
			return err
		}
		if r.status < 300 || strings.Contains(r.body, "hidden") || strings.Contains(r.body, "root:") {
			return fmt.Errorf("BYPASS: %d %.200q", r.status, r.body)
		}
		return c.over(r)
	}}
}

func serves(target, want, ranges string) attack {
	raw := "GET /files" + target + " HTTP/1.1\r\nHost: edge.test\r\n"
	if ranges != "" {
		raw += "Range: " + ranges + "\r\n"
	}
	return attack{name: "serves " + target + " " + ranges, raw: raw + "\r\n", run: func(e *env) error {
		c, err := e.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.send(raw + "\r\n")
		r, err := c.response(false)
		if err != nil {
			return err
		}
		if r.body != want || r.status != 200 && r.status != 206 {
			return fmt.Errorf("WRONG: %d %.200q", r.status, r.body)
		}
		return c.over(r)
	}}
}
