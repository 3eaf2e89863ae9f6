"""RLPx and devp2p version 5: encrypted, authenticated links between nodes that have keys.

    enode      who a peer is and where            ecies      encryption to a public key
    handshake  auth and ack (EIP-8), secrets      frames     what is on the wire afterwards
    session    hello, ping, disconnect; no I/O    admission  who may connect, and how often
    link       the same on asyncio

Nothing here knows what the messages mean that it carries.
"""
