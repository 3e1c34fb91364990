# %%
import oracledb
connection = oracledb.connect(dsn="192.0.2.7:1521/x")
# %%
with connection.cursor() as cursor:
    for row in cursor.execute("SELECT * FROM cherries"):
        print(row)
# %%
%%time
connection.ping()
# %%
connection.close()
