/**
 * Yamux gives credit back after every piece that arrives: an encrypted frame and a packet for each inference step of the
 * other side. A session needs it only now and then, so it is given when half of the window is used (as Hashicorp's
 * original does).
 */
import type { Stream } from "@libp2p/interface";

/** The part of a yamux stream that its public interface does not show. */
interface WindowedStream {
  readonly state: number;
  readonly recvWindow: number;
  readonly recvWindowCapacity: number;
  sendWindowUpdate(): void;
}

/** Yamux's number for a stream that both sides know: before it, an update also acknowledges. */
const established = 3;

/** Leaves any other stream as it is; false: it is another one. */
export function sendFewerWindowUpdates(stream: Stream): boolean {
  if (!isWindowed(stream)) return false;
  const sendUpdate = stream.sendWindowUpdate.bind(stream);
  stream.sendWindowUpdate = () => {
    const isHalfFull = stream.recvWindowCapacity > stream.recvWindow / 2;
    if (stream.state !== established || !isHalfFull) sendUpdate();
  };
  return true;
}

function isWindowed(stream: object): stream is WindowedStream {
  const { state, recvWindow, recvWindowCapacity, sendWindowUpdate } = stream as Partial<WindowedStream>;
  const numbers = [state, recvWindow, recvWindowCapacity];
  return typeof sendWindowUpdate === "function" && numbers.every((value) => typeof value === "number");
}
