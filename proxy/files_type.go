package proxy

import (
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
)

// mediaTypes are the types of what the web is made of, whatever the machine
// knows about them.
var mediaTypes = map[string]string{
	".html":        "text/html; charset=utf-8",
	".htm":         "text/html; charset=utf-8",
	".xhtml":       "application/xhtml+xml",
	".css":         "text/css; charset=utf-8",
	".js":          "text/javascript; charset=utf-8", // RFC 9239
	".mjs":         "text/javascript; charset=utf-8",
	".json":        "application/json",
	".jsonld":      "application/ld+json",
	".map":         "application/json",
	".webmanifest": "application/manifest+json",
	".wasm":        "application/wasm",
	".xml":         "application/xml",
	".rss":         "application/rss+xml",
	".atom":        "application/atom+xml",
	".txt":         "text/plain; charset=utf-8",
	".md":          "text/markdown; charset=utf-8",
	".csv":         "text/csv; charset=utf-8",
	".ics":         "text/calendar; charset=utf-8",
	".vtt":         "text/vtt; charset=utf-8",
	".yaml":        "application/yaml", // RFC 9512
	".yml":         "application/yaml",

	".svg":  "image/svg+xml",
	".png":  "image/png",
	".apng": "image/apng",
	".jpg":  "image/jpeg",
	".jpeg": "image/jpeg",
	".gif":  "image/gif",
	".webp": "image/webp",
	".avif": "image/avif",
	".ico":  "image/x-icon",
	".bmp":  "image/bmp",
	".tif":  "image/tiff",
	".tiff": "image/tiff",

	".woff":  "font/woff",
	".woff2": "font/woff2",
	".ttf":   "font/ttf",
	".otf":   "font/otf",

	".mp3":  "audio/mpeg",
	".m4a":  "audio/mp4",
	".ogg":  "audio/ogg",
	".oga":  "audio/ogg",
	".opus": "audio/ogg",
	".flac": "audio/flac",
	".wav":  "audio/wav",
	".mp4":  "video/mp4",
	".m4v":  "video/mp4",
	".webm": "video/webm",
	".ogv":  "video/ogg",
	".mov":  "video/quicktime",
	".m3u8": "application/vnd.apple.mpegurl", // RFC 8216
	".ts":   "video/mp2t",

	".pdf":  "application/pdf",
	".zip":  "application/zip",
	".gz":   "application/gzip", // RFC 6713
	".tgz":  "application/gzip",
	".br":   "application/octet-stream", // none is registered
	".zst":  "application/zstd",
	".tar":  "application/x-tar",
	".7z":   "application/x-7z-compressed",
	".bin":  "application/octet-stream",
	".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}

// mediaType is the Content-Type of a file: by its extension, or else by how it
// begins.
func mediaType(name string, f io.ReaderAt) (string, error) {
	if ext := strings.ToLower(path.Ext(name)); len(ext) > 1 {
		if known, ok := mediaTypes[ext]; ok {
			return known, nil
		}
		if known := mime.TypeByExtension(ext); known != "" {
			return withCharset(known), nil
		}
	}
	start := make([]byte, 512) // all that DetectContentType looks at
	n, err := f.ReadAt(start, 0)
	if err != nil && err != io.EOF {
		return "", err
	}
	return http.DetectContentType(start[:n]), nil
}

// withCharset completes the type of a text.
func withCharset(media string) string {
	if strings.HasPrefix(media, "text/") && !strings.Contains(media, ";") {
		return media + "; charset=utf-8"
	}
	return media
}
