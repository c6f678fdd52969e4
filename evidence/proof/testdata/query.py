# Sends the same query in every way that Python has.
import socket,struct,threading,os,time
def q(i,n):
    return struct.pack('>HHHHHH',i,256,1,0,0,0)+b''.join(bytes([len(l)])+l for l in n)+b'\0\0\1\0\1'
n=[b'x',b'badzone',b'test']
m=q(7,n)
# unconnected sendto v4, v6
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.sendto(m,('127.0.0.1',53))
s=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM); s.sendto(q(8,n),('::1',53))
# v4-mapped
s=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM); s.sendto(q(9,n),('::ffff:127.0.0.1',53))
s.connect(('::ffff:127.0.0.1',53)); s.send(q(15,n))
# sendmsg with several iovecs
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); m=q(10,n); s.sendmsg([m[:5],m[5:20],m[20:]],[],0,('127.0.0.1',53))
# connected, write / writev
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.connect(('127.0.0.1',53)); os.write(s.fileno(),q(11,n)); m=q(12,n); os.writev(s.fileno(),[m[:9],m[9:]])
# tcp: length apart, split
s=socket.create_connection(('127.0.0.1',53)); s.setsockopt(socket.IPPROTO_TCP,socket.TCP_NODELAY,1)
m=q(13,n); s.sendall(struct.pack('>H',len(m))); s.sendall(m[:20]); s.sendall(m[20:]); s.recv(100)
# writev over tcp, two messages in one
m=q(14,n); s.sendmsg([struct.pack('>H',len(m)),m,struct.pack('>H',len(m)),m]); s.recv(100)
m=q(19,n);os.writev(s.fileno(),[struct.pack('>H',len(m)),m]); s.recv(100)
# fragmented
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.sendto(q(16,n)+b'z'*5000,('127.0.0.1',53))
# failed
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
try: s.sendto(q(17,n)+b'y'*70000,('127.0.0.1',53))
except OSError: pass
# unix, pipe, file
a,b=socket.socketpair(); a.send(q(18,n)); os.write(1,q(18,n))
# threads
def t(i):
    s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
    for k in range(4): s.sendto(q(100+i*10+k,n),('127.0.0.1',53)); s.recv(200)
ts=[threading.Thread(target=t,args=(i,)) for i in range(4)]
[x.start() for x in ts]; [x.join() for x in ts]
if os.fork()==0:
    s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.sendto(q(200,n),('127.0.0.1',53)); os._exit(0)
os.wait()
