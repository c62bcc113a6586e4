import assert from "node:assert/strict";
import type { NetworkInterfaceInfo } from "node:os";
import { test } from "node:test";
import { SkeinError } from "../util/errors.ts";
import { hostAndPort, isLoopback, parseListenAddress, reachableHosts } from "./listen-address.ts";

test("addresses are read as people write them", () => {
  const read = (text: string): [string, number | null] => {
    const { host, port } = parseListenAddress(text, "--listen");
    return [host, port];
  };
  assert.deepEqual(read("192.0.2.7"), ["192.0.2.7", null]);
  assert.deepEqual(read("192.0.2.7:8080"), ["192.0.2.7", 8080]);
  assert.deepEqual(read("0.0.0.0:0"), ["0.0.0.0", 0]);
  assert.deepEqual(read(":8080"), ["0.0.0.0", 8080]);
  assert.deepEqual(read("::"), ["::", null]);
  assert.deepEqual(read("2001:db8::7"), ["2001:db8::7", null]);
  assert.deepEqual(read("[2001:db8::7]"), ["2001:db8::7", null]);
  assert.deepEqual(read("[2001:db8::7]:8080"), ["2001:db8::7", 8080]);
  assert.deepEqual(read("[::]:8080"), ["::", 8080]);
  assert.deepEqual(read("localhost"), ["127.0.0.1", null]);
  assert.deepEqual(read("localhost:8080"), ["127.0.0.1", 8080]);
});

test("what is no address of a machine is refused, with a hint", () => {
  const wrong = ["", ":", "example.org", "example.org:80", "192.0.2.7:", "192.0.2.7:65536", "192.0.2.7:http"];
  for (const text of [
    ...wrong,
    "[192.0.2.7]:80",
    "[::1",
    "::1]:80",
    "127.evil",
    "300.1.1.1",
    "[]:80",
    "8080",
  ]) {
    assert.throws(
      () => parseListenAddress(text, "--listen"),
      (error) =>
        error instanceof SkeinError && error.code === "invalid_config" && /8080/.test(error.hint ?? ""),
      text,
    );
  }
});

test("an IPv6 address in a URL has brackets", () => {
  assert.equal(hostAndPort("::1", 80), "[::1]:80");
  assert.equal(hostAndPort("192.0.2.7", 80), "192.0.2.7:80");
});

test("others reach a machine by the addresses of its interfaces", () => {
  const entry = (address: string, internal = false): NetworkInterfaceInfo => {
    const common = { address, internal, netmask: "", mac: "", cidr: null };
    return address.includes(":") ? { ...common, family: "IPv6", scopeid: 0 } : { ...common, family: "IPv4" };
  };
  const interfaces = {
    lo: [entry("127.0.0.1", true), entry("::1", true)],
    eth0: [entry("fe80::1"), entry("2001:db8::7"), entry("192.168.1.7")],
    eth1: [entry("169.254.3.4"), entry("10.0.0.7"), entry("192.168.1.7")],
  };
  assert.deepEqual(reachableHosts("0.0.0.0", interfaces), ["192.168.1.7", "10.0.0.7"]);
  assert.deepEqual(reachableHosts("::", interfaces), ["192.168.1.7", "10.0.0.7", "2001:db8::7"]);
  assert.deepEqual(reachableHosts("192.0.2.7", interfaces), ["192.0.2.7"]);
  assert.deepEqual(reachableHosts("127.0.0.1", interfaces), []);
  assert.ok(isLoopback("127.0.0.2") && isLoopback("::1") && !isLoopback("0.0.0.0"));
});
