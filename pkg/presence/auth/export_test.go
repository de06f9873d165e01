package auth

// JWKSOver is JWKS with a given http.RoundTripper. Tests need it because testing/synctest does not
// support sockets.
var JWKSOver = jwks
