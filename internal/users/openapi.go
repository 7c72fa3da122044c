package users

import _ "embed"

// openapiJSON describes the service (OpenAPI 3.1).
//
//go:embed openapi.json
var openapiJSON []byte
