//! Which URLs and addresses are called. Addresses are from the IANA special-purpose registries,
//! each range with its edges and the public neighbours just outside.

use std::net::{IpAddr, SocketAddr};

use outcomed::config::CallbackAllow;
use outcomed::delivery::guard::{Refusal, judge_addresses, judge_url};
use url::Url;

/// An entry as the configuration reads it: a CIDR, an origin, or a host.
fn allow(entries: &[&str]) -> Vec<CallbackAllow> {
    entries
        .iter()
        .map(|entry| match (entry.parse(), Url::parse(entry)) {
            (Ok(net), _) => CallbackAllow::Cidr(net),
            (_, Ok(origin)) => CallbackAllow::Origin(origin),
            _ => CallbackAllow::Host((*entry).to_owned()),
        })
        .collect()
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn literal(address: &str) -> Url {
    match address.parse::<IpAddr>().expect(address) {
        IpAddr::V4(_) => url(&format!("https://{address}/hook")),
        IpAddr::V6(_) => url(&format!("https://[{address}]/hook")),
    }
}

/// Judges an address both ways: written in the URL, and as what a name resolved to.
fn judged(address: &str) -> Result<(), Refusal> {
    let in_url = judge_url(&literal(address), &[]);
    let name = url("https://receiver.example/hook");
    let resolved = judge_addresses(&name, &[address.parse().unwrap()], &[], &[]).map(drop);
    assert_eq!(in_url, resolved, "{address}: a literal and a resolved address differ");
    in_url
}

#[test]
fn addresses_that_are_not_public_are_refused_edge_by_edge_and_named() {
    for (why, addresses) in [
        ("this network", &["0.0.0.0", "0.0.0.1", "0.255.255.255"][..]),
        ("private", &["10.0.0.0", "10.1.2.3", "10.255.255.255"]),
        ("carrier-grade NAT", &["100.64.0.0", "100.100.100.200", "100.127.255.255"]),
        ("loopback", &["127.0.0.0", "127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"]),
        ("link-local", &["169.254.0.0", "169.254.169.254", "169.254.255.255"]),
        ("private", &["172.16.0.0", "172.31.255.255", "::ffff:172.16.0.1", "::ffff:10.0.0.1"]),
        ("protocol assignments", &["192.0.0.0", "192.0.0.170", "192.0.0.255"]),
        ("documentation", &["192.0.2.0", "192.0.2.255", "198.51.100.0", "198.51.100.255"]),
        ("documentation", &["203.0.113.0", "203.0.113.255", "2001:db8::", "2001:db8:ffff::1"]),
        ("AS112", &["192.31.196.0", "192.31.196.255"]),
        ("AMT", &["192.52.193.0", "192.52.193.255"]),
        ("6to4 relay", &["192.88.99.0", "192.88.99.255"]),
        ("private", &["192.168.0.0", "192.168.255.255", "64:ff9b::192.168.0.1"]),
        ("benchmarking", &["198.18.0.0", "198.19.255.255"]),
        ("multicast", &["224.0.0.0", "239.255.255.255", "ff00::", "ff02::1", "ffff::"]),
        ("reserved", &["240.0.0.0", "255.255.255.254", "255.255.255.255"]),
        ("unspecified", &["::"]),
        ("IPv4-compatible", &["::2", "::127.0.0.1", "::8.8.8.8", "::ffff:ffff"]),
        ("loopback", &["64:ff9b::127.0.0.1", "64:ff9b::7f00:1"]),
        ("link-local", &["64:ff9b::169.254.169.254", "::ffff:169.254.169.254"]),
        ("this network", &["64:ff9b::", "::ffff:0.0.0.0"]),
        ("local NAT64", &["64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"]),
        ("discard-only", &["100::", "100::ffff:ffff:ffff:ffff"]),
        ("Teredo", &["2001::", "2001:0:ffff::1"]),
        ("protocol assignments", &["2001:1::1", "2001:2::1", "2001:20::1", "2001:1ff:ffff::"]),
        ("6to4", &["2002::", "2002:7f00:1::", "2002:808:808::1", "2002:ffff:ffff::"]),
        ("documentation", &["3fff::", "3fff:fff:ffff::1"]),
        ("segment routing", &["5f00::", "5f00:ffff::1"]),
        ("unique local", &["fc00::", "fd00:ec2::254", "fdff:ffff::1"]),
        ("link-local", &["fe80::", "fe80::1", "febf:ffff::1"]),
        ("site-local", &["fec0::", "feff:ffff::1"]),
        (
            "not global unicast",
            &["64:ff9b:2::", "101::", "200::1", "1fff:ffff::", "4000::", "5eff::"],
        ),
        (
            "not global unicast",
            &["5f01::", "fbff::", "fe00::", "fe7f:ffff::", "0:1::", "::1:0:0:0"],
        ),
    ] {
        for address in addresses {
            match judged(address) {
                Err(Refusal::Address { why: said, .. }) => assert_eq!(said, why, "{address}"),
                other => panic!("{address}: {other:?}"),
            }
        }
    }
}

#[test]
fn public_addresses_just_outside_the_ranges_are_called() {
    for address in [
        "1.0.0.0",
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.1.255",
        "192.0.3.0",
        "192.31.195.255",
        "192.31.197.0",
        "192.52.192.255",
        "192.52.194.0",
        "192.88.98.255",
        "192.88.100.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2000::",
        "2000:ffff::1",
        "2001:200::",
        "2001:db7:ffff::1",
        "2001:db9::",
        "2001:4860:4860::8888",
        "2003::",
        "2606:4700:4700::1111",
        "3ffe:ffff::1",
        "3fff:1000::",
        "2a00::1",
    ] {
        assert_eq!(judged(address), Ok(()), "{address}");
    }
}

#[test]
fn no_spelling_of_loopback_gets_through() {
    for text in [
        "https://127.0.0.1/",
        "https://127.1/",
        "https://127.0.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://0x7f.0x0.0x0.0x1/",
        "https://127.0.0.1./",
        "https://１２７.０.０.１/",
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
        "https://%31%32%37.0.0.1/",
        "https://[::1]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[::ffff:7f00:1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https:127.0.0.1/",
        "https:\\\\127.0.0.1\\",
        "https://LOCALHOST/",
        "https://localhost./",
        "https://a.localhost/",
        "https://ｌｏｃａｌｈｏｓｔ/",
        "https://0/",
        "https://0.0.0.0/",
    ] {
        // A parser that refuses it is as good; what must not happen is that it is called.
        let refused = Url::parse(text).map_or(true, |url| judge_url(&url, &[]).is_err());
        assert!(refused, "{text}");
    }
}

#[test]
fn odd_urls_are_refused_for_what_is_odd_about_them() {
    let refusal = |text: &str| judge_url(&url(text), &[]).unwrap_err();
    let host = |text: &str| assert_eq!(refusal(text), Refusal::Host, "{text}");
    assert_eq!(refusal("ftp://receiver.example/"), Refusal::Scheme("ftp".into()));
    for text in ["file:///etc/passwd", "gopher://receiver.example/", "javascript:alert(1)"] {
        assert!(matches!(refusal(text), Refusal::Scheme(_)), "{text}");
    }
    for text in [
        "https://u@receiver.example/",
        "https://u:p@receiver.example/",
        "https://:p@receiver.example/",
    ] {
        assert_eq!(refusal(text), Refusal::Userinfo, "{text}");
    }
    assert_eq!(refusal("https://receiver.example/#"), Refusal::Fragment);
    assert_eq!(refusal("https://receiver.example/#top"), Refusal::Fragment);
    assert_eq!(refusal("https://receiver.example:0/"), Refusal::PortZero);
    host("https://receiver.example./");
    host("https://receiver..example/");
    host("https://.receiver.example/");
    assert_eq!(refusal("https://localhost/"), Refusal::Localhost("localhost".into()));
    assert_eq!(
        refusal("http://receiver.example:80/hook"),
        Refusal::Http("http://receiver.example".into())
    );
    assert_eq!(refusal("http://8.8.8.8/"), Refusal::Http("http://8.8.8.8".into()));
}

#[test]
fn a_url_may_be_two_kibibytes_and_not_one_byte_more() {
    let of = |length: usize| {
        let start = "https://receiver.example/";
        url(&format!("{start}{}", "a".repeat(length - start.len())))
    };
    assert_eq!(judge_url(&of(2048), &[]), Ok(()));
    assert_eq!(judge_url(&of(2049), &[]), Err(Refusal::TooLong));
}

#[test]
fn usual_urls_are_called() {
    for text in [
        "https://hr.example.com/hooks/feishu",
        "https://hr.example.com:8443/hooks?key=1",
        "https://bücher.example/",
        "https://localhost.example.com/",
        "https://notlocalhost/",
        "https://8.8.8.8/",
        "https://[2606:4700:4700::1111]:8443/",
    ] {
        assert_eq!(judge_url(&url(text), &[]), Ok(()), "{text}");
    }
}

/// entries, URL, what it resolves to, whether it is called
type Lifted = (&'static [&'static str], &'static str, &'static [&'static str], bool);

#[rustfmt::skip]
const LIFTED: &[Lifted] = &[
    // A private or loopback CIDR lifts both rules, for literals …
    (&["127.0.0.0/8"], "http://127.0.0.1:9000/", &["127.0.0.1"], true),
    (&["127.0.0.0/8"], "https://127.0.0.1:9000/", &["127.0.0.1"], true),
    (&["127.0.0.0/8"], "http://127.1/", &["127.0.0.1"], true),
    (&["127.0.0.0/8"], "http://[::ffff:127.0.0.1]/", &["::ffff:127.0.0.1"], true),
    (&["127.0.0.0/8"], "http://128.0.0.1/", &["128.0.0.1"], false),
    (&["127.0.0.0/8"], "http://10.0.0.1/", &["10.0.0.1"], false),
    (&["127.0.0.1/32"], "http://127.0.0.2/", &["127.0.0.2"], false),
    (&["::1/128"], "http://[::1]:9000/", &["::1"], true),
    (&["10.0.0.0/8"], "http://10.9.9.9/", &["10.9.9.9"], true),
    (&["172.16.0.0/12"], "http://172.31.0.1/", &["172.31.0.1"], true),
    (&["192.168.7.0/24"], "http://192.168.7.7/", &["192.168.7.7"], true),
    (&["100.64.0.0/10"], "http://100.64.0.1/", &["100.64.0.1"], true),
    (&["169.254.1.0/24"], "http://169.254.1.1/", &["169.254.1.1"], true),
    (&["fd00::/8"], "http://[fd00::1]/", &["fd00::1"], true),
    (&["fe80::/10"], "http://[fe80::1]/", &["fe80::1"], true),
    // … and for names all of whose addresses are in it.
    (&["10.0.0.0/8"], "http://hr.internal/", &["10.0.0.1", "10.0.0.2"], true),
    (&["10.0.0.0/8"], "https://hr.internal/", &["10.0.0.1"], true),
    (&["10.0.0.0/8"], "http://hr.internal/", &["10.0.0.1", "8.8.8.8"], false),
    (&["10.0.0.0/8"], "https://hr.internal/", &["10.0.0.1", "8.8.8.8"], true),
    (&["10.0.0.0/8"], "https://hr.internal/", &["10.0.0.1", "192.168.0.1"], false),
    (&["10.0.0.0/8"], "http://hr.example/", &["8.8.8.8"], false),
    (&["10.0.0.0/8", "fd00::/8"], "http://hr.internal/", &["10.0.0.1", "fd00::1"], true),
    // A wider or a public CIDR lifts the address rule only.
    (&["0.0.0.0/0"], "https://127.0.0.1/", &["127.0.0.1"], true),
    (&["0.0.0.0/0"], "http://127.0.0.1/", &["127.0.0.1"], false),
    (&["126.0.0.0/7"], "http://127.0.0.1/", &["127.0.0.1"], false),
    (&["8.8.8.0/24"], "http://8.8.8.8/", &["8.8.8.8"], false),
    (&["203.0.113.0/24"], "https://203.0.113.9/", &["203.0.113.9"], true),
    (&["203.0.113.0/24"], "http://203.0.113.9/", &["203.0.113.9"], false),
    (&["::/0"], "https://[::1]/", &["::1"], true),
    (&["::/0"], "http://[::1]/", &["::1"], false),
    (&["::/0"], "https://127.0.0.1/", &["127.0.0.1"], false),
    // An http:// origin lifts the https rule only.
    (&["http://127.0.0.1"], "http://127.0.0.1/", &["127.0.0.1"], false),
    (&["127.0.0.0/8", "http://127.0.0.1"], "http://127.0.0.1:1234/", &["127.0.0.1"], true),
    (&["0.0.0.0/0", "http://127.0.0.1"], "http://127.0.0.1:1234/", &["127.0.0.1"], false),
    (&["0.0.0.0/0", "http://127.0.0.1"], "http://127.0.0.1:80/", &["127.0.0.1"], true),
    (&["0.0.0.0/0", "http://127.0.0.1:80"], "http://127.0.0.1/", &["127.0.0.1"], true),
    (&["0.0.0.0/0", "http://127.0.0.1:1234"], "http://127.0.0.1:1234/", &["127.0.0.1"], true),
    (&["0.0.0.0/0", "http://127.0.0.1:1234"], "http://127.0.0.1:1235/", &["127.0.0.1"], false),
    (&["0.0.0.0/0", "http://127.0.0.1:1234"], "http://127.0.0.1/", &["127.0.0.1"], false),
    (&["http://hr.example"], "http://hr.example:8080/x", &["8.8.8.8"], false),
    (&["http://hr.example:8080"], "http://hr.example:8080/x", &["8.8.8.8"], true),
    (&["http://hr.example"], "http://HR.example/x", &["8.8.8.8"], true),
    (&["http://hr.example"], "http://x.hr.example/", &["8.8.8.8"], false),
    (&["http://hr.example"], "http://hr.example/", &["10.0.0.1"], false),
    (&["http://hr.example"], "https://hr.example/", &["8.8.8.8"], true),
    // A host lifts the address rule for itself, not the https rule.
    (&["hr.internal"], "https://hr.internal/", &["10.0.0.1", "8.8.8.8"], true),
    (&["HR.internal"], "https://hr.internal:8443/", &["127.0.0.1"], true),
    (&["hr.internal"], "http://hr.internal/", &["10.0.0.1"], false),
    (&["hr.internal", "http://hr.internal"], "http://hr.internal/", &["10.0.0.1"], true),
    (&["hr.internal"], "https://x.hr.internal/", &["10.0.0.1"], false),
    (&["10.0.0.7"], "https://10.0.0.7/", &["10.0.0.7"], true),
    // localhost: whoever allows one of its two addresses means that one.
    (&["127.0.0.0/8"], "http://localhost:9000/", &["::1", "127.0.0.1"], true),
    (&["127.0.0.0/8"], "http://a.localhost/", &["127.0.0.1", "::1"], true),
    (&["127.0.0.0/8"], "http://localhost/", &["127.0.0.1", "10.0.0.1"], false),
    (&["127.0.0.0/8"], "http://localhost/", &["::1"], false),
    (&["127.0.0.0/8"], "http://hr.internal/", &["127.0.0.1", "::1"], false),
    (&["::1/128"], "http://localhost/", &["127.0.0.1", "::1"], true),
    (&["10.0.0.0/8"], "https://localhost/", &["10.0.0.1"], false),
    (&["localhost"], "https://localhost/", &["127.0.0.1", "::1"], true),
    (&["localhost"], "http://localhost/", &["127.0.0.1", "::1"], false),
    (&["http://localhost"], "http://localhost/", &["127.0.0.1"], false),
];

#[test]
fn callback_allow_lifts_exactly_what_it_says() {
    for (entries, text, resolved, called) in LIFTED {
        let (allow, url) = (allow(entries), url(text));
        let addresses: Vec<IpAddr> = resolved.iter().map(|text| text.parse().unwrap()).collect();
        let judged =
            judge_url(&url, &allow).and_then(|()| judge_addresses(&url, &addresses, &allow, &[]));
        assert_eq!(judged.is_ok(), *called, "{entries:?} {text} {resolved:?}: {judged:?}");
    }
}

#[test]
fn only_the_allowed_address_of_localhost_is_dialled() {
    let addresses = ["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let vetted =
        judge_addresses(&url("http://localhost/"), &addresses, &allow(&["127.0.0.0/8"]), &[]);
    assert_eq!(vetted, Ok(vec![addresses[1]]));
}

#[test]
fn one_bad_address_refuses_the_whole_name() {
    let name = url("https://receiver.example/");
    let good: IpAddr = "8.8.8.8".parse().unwrap();
    let bad: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
    let judged = |addresses: &[IpAddr]| judge_addresses(&name, addresses, &[], &[]);
    assert_eq!(judged(&[good]), Ok(vec![good]));
    for mixed in [[good, bad], [bad, good]] {
        let refusal = judged(&mixed).unwrap_err();
        assert_eq!(refusal, Refusal::Address { address: bad.to_canonical(), why: "private" });
    }
    assert_eq!(judged(&[]), Err(Refusal::NoAddress));
}

#[test]
fn the_daemon_never_calls_itself_whatever_is_allowed() {
    let allow = allow(&["0.0.0.0/0", "127.0.0.0/8", "::/0", "::1/128", "me.example"]);
    for (own, text, resolved, itself) in [
        ("127.0.0.1:8474", "https://me.example:8474/", "127.0.0.1", true),
        ("127.0.0.1:8474", "https://me.example:8474/", "::ffff:127.0.0.1", true),
        ("127.0.0.1:8474", "https://me.example:8474/", "0.0.0.0", true),
        ("127.0.0.1:8474", "https://me.example:8475/", "127.0.0.1", false),
        ("127.0.0.1:8474", "https://me.example:8474/", "127.0.0.2", false),
        ("127.0.0.1:443", "https://me.example/", "127.0.0.1", true),
        ("0.0.0.0:8474", "https://me.example:8474/", "127.3.2.1", true),
        ("0.0.0.0:8474", "https://me.example:8474/", "0.0.0.0", true),
        ("[::]:8474", "https://me.example:8474/", "::1", true),
        ("[::]:8474", "https://me.example:8474/", "127.0.0.1", true),
        ("0.0.0.0:8474", "https://me.example:8474/", "8.8.8.8", false),
        ("8.8.8.8:8474", "https://me.example:8474/", "8.8.8.8", true),
        ("8.8.8.8:8474", "https://me.example:8474/", "0.0.0.0", false),
    ] {
        let own: SocketAddr = own.parse().unwrap();
        let judged = judge_addresses(&url(text), &[resolved.parse().unwrap()], &allow, &[own]);
        let refused = matches!(judged, Err(Refusal::OwnListener(_)));
        assert_eq!(refused, itself, "{own} {text} {resolved}: {judged:?}");
    }
}

#[test]
fn a_refusal_says_what_to_do() {
    let message = |text: &str| judge_url(&url(text), &[]).unwrap_err().to_string();
    assert!(message("http://hr.example:8080/").contains("add `http://hr.example:8080`"));
    assert!(message("https://10.0.0.1/").contains("10.0.0.1 is not a public address (private)"));
    assert!(message("https://localhost/").contains("127.0.0.0/8"));
}
