package attack_test

// known are the cases that show a fault of the gateway that is still there, and
// why. A case of these that passes fails the test.
var known = map[string]string{
	"chunk/16 digits": "the connection lets 16 digits through, fasthttp's own parser no more than 15; it is refused, so nothing is at risk",
}
