// A Whisper node and mail server of go-ethereum's last release with Whisper, obeying commands.
package main

import (
	"crypto/ecdsa"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/ethereum/go-ethereum/whisper/mailserver"
	whisper "github.com/ethereum/go-ethereum/whisper/whisperv6"

	"restante.invalid/harness"
)

type peer struct {
	harness.Node
	shh      *whisper.Whisper
	key      *ecdsa.PrivateKey
	archived atomic.Uint64
	archive  mailserver.WMailServer
	archives bool
	made     []rlp.RawValue
}

// Archive is called by shh for every envelope that passed its rules for the first time.
func (p *peer) Archive(envelope *whisper.Envelope) {
	p.archived.Add(1)
	if p.archives {
		p.archive.Archive(envelope)
	}
	if !p.Quiet {
		raw, _ := rlp.EncodeToBytes(envelope)
		harness.Emit("envelope", harness.Fields{
			"hash": harness.Hex(envelope.Hash().Bytes()), "raw": harness.Hex(raw),
		})
	}
}

func (p *peer) DeliverMail(from *whisper.Peer, request *whisper.Envelope) {
	if p.archives {
		p.archive.DeliverMail(from, request)
	}
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "host:port")
	keyHex := flag.String("key", "", "node key, 64 hex digits; a new one if empty")
	pow := flag.Float64("pow", 0.2, "least proof of work")
	maxBytes := flag.Uint("max-bytes", uint(whisper.DefaultMaxMessageSize), "of a packet")
	archive := flag.String("archive", "", "folder of the mail server; none if empty")
	password := flag.String("password", "wwww", "of the mail server")
	quiet := flag.Bool("quiet", false, "show no packets and no envelopes")
	flag.Parse()
	if err := run(*listen, *keyHex, *pow, uint32(*maxBytes), *archive, *password, *quiet); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(listen, keyHex string, pow float64, maxBytes uint32, archive, password string, quiet bool) error {
	key, err := crypto.GenerateKey()
	if keyHex != "" {
		key, err = crypto.HexToECDSA(keyHex)
	}
	if err != nil {
		return err
	}
	p := &peer{key: key, archives: archive != ""}
	p.Quiet = quiet
	p.shh = whisper.StandaloneWhisperService(&whisper.Config{
		MaxMessageSize: maxBytes, MinimumAcceptedPOW: pow, RestrictConnectionBetweenLightClients: true,
	})
	p.shh.RegisterServer(p)
	if p.archives {
		if err := p.archive.Init(p.shh, archive, password, pow); err != nil {
			return err
		}
		defer p.archive.Close()
	}
	if err := p.shh.Start(); err != nil {
		return err
	}
	if err := p.Start(key, "Geth-harness/v1.9.20", listen, p.shh.Protocols()); err != nil {
		return err
	}
	commands := p.Commands()
	commands["trust"] = harness.With(p.trust)
	commands["set-pow"] = harness.With(p.setPow)
	commands["set-bloom"] = harness.With(p.setBloom)
	commands["subscribe"] = harness.With(p.subscribe)
	commands["post"] = harness.With(p.post)
	commands["post-raw"] = harness.With(p.postRaw)
	commands["request"] = harness.With(p.request)
	commands["make"] = harness.With(p.make)
	commands["blast"] = harness.With(p.blast)
	commands["stats"] = harness.With(p.stats)
	p.Ready()
	harness.Serve(commands)
	return nil
}

func (p *peer) trust(a struct{ Peer harness.Hex }) (harness.Fields, error) {
	id := harness.PeerID(a.Peer)
	return nil, p.shh.AllowP2PMessagesFromPeer(id[:])
}

func (p *peer) setPow(a struct{ Pow float64 }) (harness.Fields, error) {
	return nil, p.shh.SetMinimumPoW(a.Pow)
}

func (p *peer) setBloom(a struct{ Bloom harness.Hex }) (harness.Fields, error) {
	return nil, p.shh.SetBloomFilter(a.Bloom)
}

func (p *peer) stats(struct{}) (harness.Fields, error) {
	return harness.Fields{"pool": len(p.shh.Envelopes()), "archived": p.archived.Load()}, nil
}

// Secret says how a message is encrypted: by a password, a key of 32 bytes, or to a public key.
type secret struct {
	Password string
	Key      harness.Hex
	Public   harness.Hex
}

func (p *peer) symmetric(s secret) ([]byte, error) {
	if s.Password == "" {
		return s.Key, nil
	}
	id, err := p.shh.AddSymKeyFromPassword(s.Password)
	if err != nil {
		return nil, err
	}
	return p.shh.GetSymKey(id)
}

// subscribe opens what comes on these topics (all, if none): events "message".
func (p *peer) subscribe(a struct {
	secret
	Private harness.Hex
	Topics  []harness.Hex
	Direct  bool // takes what a trusted mail server sends, too
}) (harness.Fields, error) {
	filter := &whisper.Filter{
		AllowP2P: a.Direct, Messages: map[common.Hash]*whisper.ReceivedMessage{},
	}
	for _, topic := range a.Topics {
		filter.Topics = append(filter.Topics, topic)
	}
	var err error
	if len(a.Private) > 0 {
		filter.KeyAsym, err = crypto.ToECDSA(a.Private)
	} else {
		filter.KeySym, err = p.symmetric(a.secret)
	}
	if err != nil {
		return nil, err
	}
	if _, err = p.shh.Subscribe(filter); err == nil {
		go show(filter)
	}
	return nil, err
}

// show asks the filter for what came: it tells nobody by itself.
func show(filter *whisper.Filter) {
	for range time.Tick(10 * time.Millisecond) {
		for _, message := range filter.Retrieve() {
			fields := harness.Fields{
				"hash":    harness.Hex(message.EnvelopeHash.Bytes()),
				"topic":   harness.Hex(message.Topic[:]),
				"payload": harness.Hex(message.Payload),
				"sent_s":  message.Sent,
			}
			if message.Src != nil {
				fields["signer"] = harness.Hex(crypto.FromECDSAPub(message.Src)[1:])
			}
			harness.Emit("message", fields)
		}
	}
}

type message struct {
	secret
	Topic    harness.Hex
	Payload  harness.Hex
	TTL      uint32
	Pow      float64
	Unsigned bool
	WorkS    uint32 `json:"work_s"`
}

func (p *peer) seal(m message) (*whisper.Envelope, harness.Fields, error) {
	params := &whisper.MessageParams{
		TTL: m.TTL, Topic: whisper.BytesToTopic(m.Topic), Payload: m.Payload,
		PoW: m.Pow, WorkTime: max(m.WorkS, 5),
	}
	if !m.Unsigned {
		params.Src = p.key
	}
	var err error
	if len(m.Public) > 0 {
		params.Dst, err = crypto.UnmarshalPubkey(append([]byte{4}, m.Public...))
	} else {
		params.KeySym, err = p.symmetric(m.secret)
	}
	if err != nil {
		return nil, nil, err
	}
	sent, err := whisper.NewSentMessage(params)
	if err != nil {
		return nil, nil, err
	}
	envelope, err := sent.Wrap(params)
	if err != nil {
		return nil, nil, err
	}
	raw, err := rlp.EncodeToBytes(envelope)
	return envelope, harness.Fields{
		"hash": harness.Hex(envelope.Hash().Bytes()), "raw": harness.Hex(raw),
	}, err
}

func (p *peer) post(m message) (harness.Fields, error) {
	envelope, fields, err := p.seal(m)
	if err == nil {
		err = p.shh.Send(envelope)
	}
	return fields, err
}

func (p *peer) postRaw(a struct{ Raws []harness.Hex }) (harness.Fields, error) {
	for _, raw := range a.Raws {
		var envelope whisper.Envelope
		if err := rlp.DecodeBytes(raw, &envelope); err != nil {
			return nil, err
		}
		if err := p.shh.Send(&envelope); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// request asks a mail server, with whatever payload.
func (p *peer) request(a struct {
	message
	Peer harness.Hex
}) (harness.Fields, error) {
	envelope, fields, err := p.seal(a.message)
	if err == nil {
		id := harness.PeerID(a.Peer)
		err = p.shh.RequestHistoricMessages(id[:], envelope)
	}
	return fields, err
}

const topicStep = 2654435761

// make seals many envelopes of random data in advance, for `blast`; topics are 4 random bytes, or
// one of so many: multiples of `topicStep`, which has bits everywhere, as hashes have. Data has
// `bytes`, or `sizes` in turn.
func (p *peer) make(a struct {
	Count, Bytes int
	Sizes        []int
	TTL          uint32
	Pow          float64
	Topics       uint32
}) (harness.Fields, error) {
	began := time.Now()
	p.made = make([]rlp.RawValue, 0, a.Count)
	for n := range a.Count {
		topic := rand.Uint32()
		if a.Topics > 0 {
			topic = topic % a.Topics * topicStep
		}
		size := a.Bytes
		if len(a.Sizes) > 0 {
			size = a.Sizes[n%len(a.Sizes)]
		}
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		_, raw, err := worked(a.TTL, topic, data, a.Pow)
		if err != nil {
			return nil, err
		}
		p.made = append(p.made, raw)
	}
	return harness.Fields{"seconds": time.Since(began).Seconds()}, nil
}

// worked finds a nonce by geth's own measure of work.
func worked(ttl, topic uint32, data []byte, pow float64) (*whisper.Envelope, rlp.RawValue, error) {
	envelope := whisper.Envelope{
		Expiry: uint32(time.Now().Unix()) + ttl, TTL: ttl, Data: data,
		Topic: whisper.TopicType{byte(topic >> 24), byte(topic >> 16), byte(topic >> 8), byte(topic)},
	}
	for {
		tried := envelope // PoW is remembered by the value that was asked
		if tried.PoW() >= pow {
			raw, err := rlp.EncodeToBytes(&tried)
			return &tried, raw, err
		}
		envelope.Nonce++
	}
}

func (p *peer) blast(a struct {
	Peer      harness.Hex
	PerPacket int `json:"per_packet"`
	From, To  int
}) (harness.Fields, error) {
	if a.To == 0 {
		a.To = len(p.made)
	}
	return p.Blast(a.Peer, p.made[a.From:a.To], a.PerPacket)
}
