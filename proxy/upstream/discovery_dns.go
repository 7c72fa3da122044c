package upstream

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// udpSize is what we say that we take in a datagram: it passes unfragmented
// nearly everywhere (dnsflagday.net/2020).
const udpSize = 1232

// converse sends one query and reads until its reply is there. What is not the
// reply, by its number or its question, is left out: over UDP anybody may have
// sent it (RFC 5452, section 9.1).
func converse(c net.Conn, stream bool, q dnsmessage.Question) ([]dnsmessage.Resource, error) {
	id := uint16(rand.Uint32()) // seeded by the system; the port is random as well
	query, err := packQuery(id, q)
	if err != nil {
		return nil, err
	}
	if !stream {
		query = query[2:]
	}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, 1<<16)
	for range 1000 {
		message, err := receiveMessage(c, stream, buf)
		if err != nil {
			return nil, err
		}
		records, ours, err := readReply(message, id, q, stream)
		if ours {
			return records, err
		}
	}
	return nil, fmt.Errorf("nothing but replies to other questions")
}

// packQuery gives the query with its length before it, as TCP wants it (RFC
// 1035, section 4.2.2).
func packQuery(id uint16, q dnsmessage.Question) ([]byte, error) {
	var opt dnsmessage.ResourceHeader
	if err := opt.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false); err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions:   []dnsmessage.Question{q},
		Additionals: []dnsmessage.Resource{{Header: opt, Body: &dnsmessage.OPTResource{}}},
	}
	b, err := m.AppendPack(make([]byte, 2, 512))
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	return b, nil
}

func receiveMessage(c net.Conn, stream bool, buf []byte) ([]byte, error) {
	if !stream {
		n, err := c.Read(buf)
		return buf[:n], err
	}
	if _, err := io.ReadFull(c, buf[:2]); err != nil {
		return nil, err
	}
	message := buf[:binary.BigEndian.Uint16(buf)]
	_, err := io.ReadFull(c, message)
	return message, err
}

// readReply takes a message apart. ours is false where it does not answer q.
func readReply(message []byte, id uint16, q dnsmessage.Question, stream bool) (records []dnsmessage.Resource, ours bool, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || !h.Response || h.ID != id {
		return nil, stream, fmt.Errorf("not a reply: %v", err)
	}
	asked, err := p.Question()
	switch {
	case err == dnsmessage.ErrSectionDone && h.RCode != dnsmessage.RCodeSuccess: // some leave the question out of a failure
	case err != nil, asked.Type != q.Type, asked.Class != q.Class, !strings.EqualFold(asked.Name.String(), q.Name.String()):
		return nil, stream, fmt.Errorf("a reply to another question")
	}
	switch {
	case h.RCode == dnsmessage.RCodeNameError:
		return nil, true, nil
	case h.RCode != dnsmessage.RCodeSuccess:
		return nil, true, fmt.Errorf("answers %s", strings.TrimPrefix(h.RCode.String(), "RCode"))
	case h.Truncated:
		return nil, true, errTruncated
	}
	if err := p.SkipAllQuestions(); err != nil {
		return nil, true, err
	}
	records, err = p.AllAnswers()
	return records, true, err
}
