package harness

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/p2p/enode"
	"github.com/ethereum/go-ethereum/rlp"
)

// codeMessages is shh's packet of envelopes.
const codeMessages = 1

// Node is a devp2p node that dials only whom it is told to, discovers nothing and maps no ports.
type Node struct {
	Server *p2p.Server
	// Quiet nodes do not show their packets: for measuring.
	Quiet bool

	mu    sync.Mutex
	links map[enode.ID]*tap
}

// Start runs the node; every protocol's packets are shown as events "packet".
func (n *Node) Start(key *ecdsa.PrivateKey, name, listen string, protocols []p2p.Protocol) error {
	n.links = map[enode.ID]*tap{}
	tapped := make([]p2p.Protocol, len(protocols))
	for i, protocol := range protocols {
		tapped[i] = protocol
		run := protocol.Run
		tapped[i].Run = func(peer *p2p.Peer, rw p2p.MsgReadWriter) error {
			return n.run(peer, rw, run)
		}
	}
	n.Server = &p2p.Server{Config: p2p.Config{
		PrivateKey:  key,
		MaxPeers:    200,
		Name:        name,
		Protocols:   tapped,
		ListenAddr:  listen,
		NoDiscovery: true,
	}}
	if err := n.Server.Start(); err != nil {
		return err
	}
	events := make(chan *p2p.PeerEvent, 1000)
	n.Server.SubscribeEvents(events)
	go n.tellLost(events)
	return nil
}

// Ready tells the address, when everything runs.
func (n *Node) Ready() {
	Emit("ready", Fields{"enode": n.Server.NodeInfo().Enode})
}

func (n *Node) run(
	peer *p2p.Peer, rw p2p.MsgReadWriter, run func(*p2p.Peer, p2p.MsgReadWriter) error,
) error {
	link := &tap{MsgReadWriter: rw, peer: publicID(peer.Node()), quiet: n.Quiet}
	n.mu.Lock()
	n.links[peer.ID()] = link
	n.mu.Unlock()
	Emit("peer", Fields{"peer": link.peer, "name": peer.Name(), "inbound": peer.Inbound()})
	return run(peer, link)
}

// tellLost gives the reason too: that a protocol's run ended does not say why.
func (n *Node) tellLost(events <-chan *p2p.PeerEvent) {
	for event := range events {
		if event.Type != p2p.PeerEventTypeDrop {
			continue
		}
		n.mu.Lock()
		link := n.links[event.Peer]
		delete(n.links, event.Peer)
		n.mu.Unlock()
		if link != nil {
			Emit("lost", Fields{"peer": link.peer, "why": event.Error})
		}
	}
}

func publicID(node *enode.Node) string {
	return hex.EncodeToString(crypto.FromECDSAPub(node.Pubkey())[1:])
}

// PeerID of a public key of 64 bytes, as the server names its peers.
func PeerID(public Hex) (id enode.ID) {
	copy(id[:], crypto.Keccak256(public))
	return id
}

// Commands that any node obeys.
func (n *Node) Commands() map[string]Handler {
	return map[string]Handler{
		"connect":    With(n.connect),
		"disconnect": With(n.disconnect),
		"peers":      With(n.peers),
		"send":       With(n.send),
		"tally":      With(n.tally),
	}
}

type enodeArgument struct{ Enode string }

func (n *Node) connect(a enodeArgument) (Fields, error) {
	node, err := enode.ParseV4(a.Enode)
	if err == nil {
		n.Server.AddPeer(node)
	}
	return nil, err
}

func (n *Node) disconnect(a enodeArgument) (Fields, error) {
	node, err := enode.ParseV4(a.Enode)
	if err == nil {
		n.Server.RemovePeer(node)
	}
	return nil, err
}

func (n *Node) peers(struct{}) (Fields, error) {
	return Fields{"peers": n.Server.PeersInfo()}, nil
}

func (n *Node) link(peer Hex) (*tap, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	link := n.links[PeerID(peer)]
	if link == nil {
		return nil, fmt.Errorf("not connected to %x", []byte(peer))
	}
	return link, nil
}

// send writes a packet as it is given, past everything that the protocol would have done.
func (n *Node) send(a struct {
	Peer    Hex
	Code    uint64
	Payload Hex
}) (Fields, error) {
	link, err := n.link(a.Peer)
	if err != nil {
		return nil, err
	}
	return nil, link.WriteMsg(p2p.Msg{
		Code: a.Code, Size: uint32(len(a.Payload)), Payload: bytes.NewReader(a.Payload),
	})
}

// tally counts what came of one code from a peer, and tells when the last of it did.
func (n *Node) tally(a struct {
	Peer Hex
	Code uint64
}) (Fields, error) {
	link, err := n.link(a.Peer)
	if err != nil {
		return nil, err
	}
	if a.Code >= uint64(len(link.came)) {
		return nil, fmt.Errorf("no code: %d", a.Code)
	}
	return Fields{"count": link.came[a.Code].Load(), "last_ms": link.lastMs.Load()}, nil
}

// Blast writes envelopes straight to a peer, so many a packet, as fast as it reads them.
func (n *Node) Blast(peer Hex, envelopes []rlp.RawValue, perPacket int) (Fields, error) {
	link, err := n.link(peer)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	for len(envelopes) > 0 && err == nil {
		size := min(perPacket, len(envelopes))
		err = p2p.Send(link.MsgReadWriter, codeMessages, envelopes[:size])
		envelopes = envelopes[size:]
	}
	return Fields{"seconds": time.Since(began).Seconds()}, err
}

// tap shows what passes.
type tap struct {
	p2p.MsgReadWriter
	peer   string
	quiet  bool
	came   [128]atomic.Uint64 // packets, by code
	lastMs atomic.Int64
}

func (t *tap) ReadMsg() (p2p.Msg, error) {
	msg, err := t.MsgReadWriter.ReadMsg()
	if err == nil && msg.Code < uint64(len(t.came)) {
		t.came[msg.Code].Add(1)
		t.lastMs.Store(time.Now().UnixMilli())
	}
	if err == nil && !t.quiet {
		err = t.show("in", &msg)
	}
	return msg, err
}

func (t *tap) WriteMsg(msg p2p.Msg) error {
	if !t.quiet {
		if err := t.show("out", &msg); err != nil {
			return err
		}
	}
	return t.MsgReadWriter.WriteMsg(msg)
}

func (t *tap) show(way string, msg *p2p.Msg) error {
	payload, err := io.ReadAll(msg.Payload)
	if err != nil {
		return err
	}
	msg.Payload = bytes.NewReader(payload)
	Emit("packet", Fields{"way": way, "peer": t.peer, "code": msg.Code, "payload": Hex(payload)})
	return nil
}
