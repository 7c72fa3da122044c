package config

import "gopkg.in/yaml.v3"

const redacted = "redacted"

// Redact renders the document as YAML with aliases and variables put in. It
// shows only scalars that a decode has put into fields without the tag secret,
// and no password of a URL; whatever it does not know is "redacted".
func Redact(d *Document) []byte {
	out, err := yaml.Marshal(d.redact(d.root))
	if err != nil {
		return []byte("# cannot be rendered\n")
	}
	return out
}

func (d *Document) redact(n *node) *yaml.Node {
	switch n.kind {
	case listNode:
		y := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range n.items {
			y.Content = append(y.Content, d.redact(item))
		}
		return y
	case mappingNode:
		y := &yaml.Node{Kind: yaml.MappingNode}
		for i, key := range n.keys {
			k := &yaml.Node{Kind: yaml.ScalarNode, Tag: strTag, Value: key.value}
			y.Content = append(y.Content, k, d.redact(n.items[i]))
		}
		return y
	}
	switch {
	case n.isNull():
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: nullTag, Value: "null"}
	case !d.shown[n]:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: strTag, Value: redacted}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: n.tag, Value: hidePassword(n.value)}
}
